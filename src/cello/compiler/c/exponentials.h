/* exp(v), exp(2 v) and 1 - exp(2 v) of one reduction, for kernels that need all three of a v that is never positive. */

#if DOUBLE
static inline vec exponential_and_square(vec v, vec *square, vec *less) {
    *square = exponential(v + v);
    *less = 1 - *square;
    return exponential(v);
}
#else
/* v * 4^n from SHIFT + n */
static inline vec scaled_twice(vec v, vec n) {
#if defined(__AVX512F__)
    return scaled(v, n + (n - SHIFT));
#else
    return scaled(scaled(v, n), n);
#endif
}
/* With exp(v) = 2^n (1 + p), exp(2 v) is 4^n (1 + m) with m = p^2 + 2 p, and 1 - exp(2 v) is 1 - 4^n - 4^n m, which keeps
   its digits around 0. */
static inline vec exponential_and_square(vec v, vec *square, vec *less) {
    vec n;
    const vec p = reduced(clamped(v, -104.0f, 0.0f), &n), m = p * p + (p + p);
    const vec scale = scaled_twice(broadcast(1.0f), n);
    *square = scaled_twice(m + 1.0f, n);
    *less = (1.0f - scale) - scale * m;
    return scaled(p + 1.0f, n);
}
#endif
