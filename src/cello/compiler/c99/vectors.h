/* Vectors of LANES floats and the functions of the cell language on them. */
#if LANES > 1
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t whole __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef float anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

LOCAL vec load(const float *p) { return *(const anywhere *)p; }
LOCAL void store(float *p, vec v) { *(anywhere *)p = v; }
LOCAL vec broadcast(float v) { return v - (vec){0}; }
LOCAL bits bits_of(vec v) { return (bits)v; }
LOCAL vec from_bits(bits b) { return (vec)b; }
LOCAL vec to_float(whole n) { return __builtin_convertvector(n, vec); }
#define CHOOSE(condition, then, otherwise) \
    from_bits(((bits)(condition) & bits_of(then)) | (~(bits)(condition) & bits_of(otherwise)))
#else
typedef float vec;
typedef int32_t whole;
typedef uint32_t bits;

LOCAL vec load(const float *p) { return *p; }
LOCAL void store(float *p, vec v) { *p = v; }
LOCAL vec broadcast(float v) { return v; }
LOCAL bits bits_of(vec v) { bits b; memcpy(&b, &v, sizeof b); return b; }
LOCAL vec from_bits(bits b) { vec v; memcpy(&v, &b, sizeof v); return v; }
LOCAL vec to_float(whole n) { return (vec)n; }
#define CHOOSE(condition, then, otherwise) ((condition) ? (then) : (otherwise))
#endif

/* NaN where an argument is, as in the training of the model */
LOCAL vec where(vec a, vec b, vec u, vec v) { return CHOOSE(a > b, u, v); }
LOCAL vec maximum(vec a, vec b) { return CHOOSE(a > b, a, CHOOSE(b >= a, b, a + b)); }
LOCAL vec minimum(vec a, vec b) { return CHOOSE(a < b, a, CHOOSE(b <= a, b, a + b)); }
LOCAL vec relu(vec v) { return CHOOSE(v < broadcast(0.0f), broadcast(0.0f), v); }
LOCAL vec absolute(vec v) { return from_bits(bits_of(v) & 0x7fffffffu); }
LOCAL vec within(vec v, float low, float high) { return WITHIN(LANES, CHOOSE, v, broadcast(low), broadcast(high)); }

/* v = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1, by Taylor's series to r^7 (error 5e-9), and n in the lowest
   bits of *n. Adding 1.5 * 2^23 rounds to a whole number in the lowest bits. */
#define SHIFT 12582912.0f
#define SHIFT_BITS 0x4b400000u
LOCAL vec reduced(vec v, bits *n) {
    const vec rounded = v * 1.44269504f + SHIFT, count = rounded - SHIFT;
    const vec r = v - count * 0.693359375f + count * 2.12194440e-4f, square = r * r;
    const vec high = (r * (1.0f / 5040) + 1.0f / 720) * square + (r * (1.0f / 120) + 1.0f / 24);
    *n = bits_of(rounded);
    return (high * square + (r * (1.0f / 6) + 0.5f)) * square + r;
}
/* 2^n for -126 <= n <= 127; the shift drops what stands above the lowest bits */
LOCAL vec power_of_2(bits n) { return from_bits((n << 23) + (127u << 23)); }

/* Two factors, so that what is too large is infinite and what is too small is rounded once. */
LOCAL vec exponential(vec v) {
    bits n;
    const vec e = reduced(within(v, -104.0f, 100.0f), &n) + 1.0f;
    const bits half = ((n - SHIFT_BITS + 256u) >> 1) - 128u;
    return e * power_of_2(half) * power_of_2(n - SHIFT_BITS - half);
}

/* tanh v = m / (m + 2) with m = exp(2 v) - 1, which keeps its digits around 0 */
LOCAL vec hyperbolic(vec v) {
    bits n;
    const vec e = reduced(within(v, -10.0f, 10.0f) * 2.0f, &n), scale = power_of_2(n);
    const vec m = e * scale + (scale - 1.0f);
    return m / (m + 2.0f);
}

/* exp(-v) is 2 * e * 2^(n - 1), which is infinite only where it is too large: a closed gate is 0. */
LOCAL vec sigmoid(vec v) {
    bits n;
    const vec e = reduced(within(-v, -86.0f, 89.0f), &n) + 1.0f;
    return 1.0f / (1.0f + 2.0f * (e * power_of_2(n - 1u)));
}

/* ln v: v = 2^e m with m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1 (that of logf in Moshier's Cephes); a
   subnormal v is scaled by 2^23 first. */
LOCAL vec logarithm(vec v) {
    const vec tiny = broadcast(1.17549435e-38f), zero = broadcast(0.0f);
    const vec large = CHOOSE(v < tiny, v * 8388608.0f, v);
    const bits from = bits_of(large) - 0x3f3504f3u;    /* of sqrt(1/2); the exponent is above 2^23, offset by 128 */
    const vec e = to_float((whole)((from + (128u << 23)) >> 23)) - CHOOSE(v < tiny, broadcast(151.0f), broadcast(128.0f));
    const vec m = from_bits((from & 0x007fffffu) + 0x3f3504f3u) - 1.0f, square = m * m;
    vec p = m * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = m + (p * m * square + (e * -2.12194440e-4f - 0.5f * square)) + e * 0.693359375f;
    p = CHOOSE(v - v == zero, p, v + v);                                  /* infinite, or NaN */
    p = CHOOSE(v == zero, from_bits(bits_of(zero) | 0xff800000u), p);     /* minus infinity */
    return CHOOSE(v < zero, from_bits(bits_of(zero) | 0x7fc00000u), p);   /* NaN */
}

/* ln(1 + e^v) = max(v, 0) + ln(1 + u) with u = e^-|v|, whose rounding in 1 + u is divided out again */
LOCAL vec softplus(vec v) {
    const vec u = exponential(-absolute(v)), w = u + 1.0f, one = broadcast(1.0f);
    return relu(v) + CHOOSE(w == one, u, logarithm(w) * (u / CHOOSE(w == one, one, w - 1.0f)));
}
