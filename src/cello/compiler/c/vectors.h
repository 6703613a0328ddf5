/* What every generated kernel stands on: vectors of `real` numbers and the functions of the cell language.

   A vec holds V elements. A tile holds some rows of a batch, blocked: all rows' first V elements, then their next V,
   and so on; a row's element k stands at (k / V) * rows * V + row * V + k % V, where rows is the tile's number of rows.
   Rows of H units are padded to P elements, whole vecs; what lies beyond H is never mixed with what lies before it. */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
enum { BYTES = 64, WIDE = 2, MOST_ROWS = 8 };    /* 32 registers: 16 hold sums */
#elif defined(__AVX__)
enum { BYTES = 32, WIDE = 2, MOST_ROWS = 4 };    /* 16 registers: 8 hold sums */
#else
enum { BYTES = 16, WIDE = 4, MOST_ROWS = 4 };    /* NEON, 32 registers: 16 hold sums */
#endif
enum { V = BYTES / sizeof(real), ROWS = MOST_ROWS < V ? MOST_ROWS : V, PANEL = V * WIDE };
enum { TILE = 32, MOST_CHUNK = 256, GROUPS = 8 };

typedef real vec __attribute__((vector_size(BYTES)));
typedef integer mask __attribute__((vector_size(BYTES)));
typedef real anywhere __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

/* Some instructions are written as such: <immintrin.h> would take the compiler a fifth of the time of most cells. */

/* Compiled once, for all kernels; a kernel's own text has but their first lines. */
#define SHARED __attribute__((visibility("hidden")))

static inline vec load(const real *p) { return *(const anywhere *)p; }
static inline void store(real *p, vec v) { *(anywhere *)p = v; }
static inline void accumulate(real *p, vec v) { store(p, load(p) + v); }
static inline vec broadcast(real v) { return v - (vec){0}; }

/* The first n < V elements of a vec, zeros after them. */
static inline vec load_some(const real *p, long n) {
#if defined(__AVX512F__) && !DOUBLE
    vec v;
    __asm__("vmovups %1, %0%{%2%}%{z%}" : "=v"(v) : "m"(*(const anywhere *)p), "Yk"((unsigned short)((1 << n) - 1)));
    return v;
#else
    vec v = {0};
    for (long k = 0; k < n; k++) v[k] = p[k];
    return v;
#endif
}
static inline void store_some(real *p, vec v, long n) {
#if defined(__AVX512F__) && !DOUBLE
    __asm__("vmovups %1, %0%{%2%}" : "+m"(*(anywhere *)p) : "v"(v), "Yk"((unsigned short)((1 << n) - 1)));
#else
    for (long k = 0; k < n; k++) p[k] = v[k];
#endif
}

#if defined(__AVX512F__)
/* Lanes of a, and from lane V on of b, that `from` names. */
static inline vec pick(vec a, mask from, vec b) {
#if DOUBLE
    __asm__("vpermt2pd %2, %1, %0" : "+v"(a) : "v"(from), "v"(b));
#else
    __asm__("vpermt2ps %2, %1, %0" : "+v"(a) : "v"(from), "v"(b));
#endif
    return a;
}
#endif

/* then where the condition holds, otherwise elsewhere */
static inline vec select_vec(mask condition, vec then, vec otherwise) {
    return (vec)((condition & (mask)then) | (~condition & (mask)otherwise));
}
static inline vec where(vec a, vec b, vec u, vec v) { return select_vec(a > b, u, v); }
static inline vec maximum(vec a, vec b) { return select_vec(a > b, a, select_vec(b >= a, b, a + b)); }
static inline vec minimum(vec a, vec b) { return select_vec(a < b, a, select_vec(b <= a, b, a + b)); }
static inline vec relu(vec v) { return select_vec(v < broadcast(0), broadcast(0), v); }
static inline vec absolute(vec v) { return (vec)((mask)v & ~(mask)broadcast((real)-0.0)); }    /* clears the sign bit */

#define LANE_BY_LANE(name, function) \
    static inline vec name(vec v) { for (int k = 0; k < V; k++) v[k] = function(v[k]); return v; }

#if DOUBLE
LANE_BY_LANE(exponential, exp)
LANE_BY_LANE(hyperbolic, tanh)
LANE_BY_LANE(logarithm, log)
LANE_BY_LANE(logarithm_of_1_plus, log1p)
LANE_BY_LANE(root, sqrt)

static inline vec sigmoid(vec v) { return 1 / (1 + exponential(-v)); }
static inline vec softplus(vec v) { return relu(v) + logarithm_of_1_plus(exponential(-absolute(v))); }
#else
LANE_BY_LANE(root, sqrtf)

static inline vec clamped(vec v, real low, real high) {    /* NaN stays NaN */
#if defined(__AVX512F__)
    __asm__("vmaxps %0, %1, %0" : "+v"(v) : "v"(broadcast(low)));
    __asm__("vminps %0, %1, %0" : "+v"(v) : "v"(broadcast(high)));
    return v;
#else
    return select_vec(v < broadcast(low), broadcast(low), select_vec(v > broadcast(high), broadcast(high), v));
#endif
}

static const real SHIFT = 12582912.0f;    /* 1.5 * 2^23: adding it rounds to a whole number in the lowest bits */

/* v = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1, by Taylor's series to r^7 (error 5e-9), and SHIFT + n. */
static inline vec reduced(vec v, vec *n) {
    const vec rounded = v * 1.44269504f + SHIFT;
    const vec whole = rounded - SHIFT;
    *n = rounded;
    const vec r = v - whole * 0.693359375f + whole * 2.12194440e-4f, square = r * r;
    const vec high = (r * (1.0f / 5040) + 1.0f / 720) * square + (r * (1.0f / 120) + 1.0f / 24);
    return (high * square + (r * (1.0f / 6) + 0.5f)) * square + r;
}
/* 2^n for -126 <= n <= 127 from SHIFT + n; the shift drops what stands above the lowest bits */
static inline vec power_of_2(mask n) { return (vec)((n << 23) + (127 << 23)); }
/* v * 2^n from SHIFT + n: infinite where it is too large, and rounded once, to a subnormal number or 0, where too small */
static inline vec scaled(vec v, vec n) {
#if defined(__AVX512F__)
    __asm__("vscalefps %1, %0, %0" : "+v"(v) : "v"(n - SHIFT));
    return v;
#else
    const mask whole = (mask)n - (mask)broadcast(SHIFT), half = whole >> 1;
    return v * power_of_2(half) * power_of_2(whole - half);
#endif
}

/* exp(-104) is less than half of the smallest number */
static inline vec exponential(vec v) {
    vec n;
    const vec e = reduced(clamped(v, -104.0f, 100.0f), &n) + 1.0f;
    return scaled(e, n);
}

/* tanh v = m / (m + 2) with m = exp(2 v) - 1, which keeps its digits around 0 */
static inline vec hyperbolic(vec v) {
    vec n;
    const vec e = reduced(clamped(v, -10.0f, 10.0f) * 2.0f, &n);
    const vec scale = power_of_2((mask)n);
    const vec m = e * scale + (scale - 1.0f);
    return m / (m + 2.0f);
}

/* exp(-v) is infinite only where it is too large: a closed gate is 0, as torch's is. Below exp(-86) it adds nothing to
   1, so that 2^(n - 1), doubled, does where there is no instruction to scale. */
static inline vec sigmoid(vec v) {
    vec n;
    const vec e = reduced(clamped(-v, -86.0f, 89.0f), &n) + 1.0f;
#if defined(__AVX512F__)
    return 1.0f / (1.0f + scaled(e, n));
#else
    return 1.0f / (1.0f + 2.0f * (e * power_of_2((mask)n - 1)));
#endif
}

/* log(1 + f) = 2 (s + s^3/3 + s^5/5 + ...) of s = f / (f + 2), which is f - f^2/2 + s (f^2/2 + 2 (s^2/3 + s^4/5 + ...)):
   f keeps its digits around 0. Given is 2/3 + 2 s^2/5 + ..., what follows the first power. */
static inline vec near_1(vec f, vec s, vec high) {
    const vec half = f * f * 0.5f;
    return s * (half + high * (s * s)) - half;    /* log(1 + f) - f */
}
/* v = 2^n (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), the series to s^9 (error 1e-8 f). Subnormal numbers are scaled
   first. */
static inline vec logarithm(vec v) {
    const mask small = v < broadcast(1.17549435e-38f);
    const mask bits = (mask)select_vec(small, v * 8388608.0f, v);
    const mask n = (bits - 0x3f3504f3) >> 23;
    const vec whole = (vec)(n + (mask)broadcast(SHIFT)) - SHIFT - select_vec(small, broadcast(23.0f), broadcast(0));
    const vec f = (vec)(bits - (n << 23)) - 1.0f, s = f / (f + 2.0f), square = s * s;
    const vec rest = near_1(f, s, ((square * (2.0f / 9) + 2.0f / 7) * square + 2.0f / 5) * square + 2.0f / 3);
    const vec found = whole * 0.693359375f + (f + (rest - whole * 2.12194440e-4f));
    const vec beyond = select_vec(v == 0, broadcast(-INFINITY), select_vec(v < 0, broadcast(NAN), v));
    return select_vec((v > 0) & (v < broadcast(INFINITY)), found, beyond);
}

/* With f = exp(-|v|), s is at most 1/3: the series to s^13 (error 2e-8 f). */
static inline vec softplus(vec v) {
    const vec f = exponential(-absolute(v)), s = f / (f + 2.0f), square = s * s;
    const vec high = (square * (2.0f / 13) + 2.0f / 11) * square + 2.0f / 9;
    return relu(v) + (f + near_1(f, s, ((high * square + 2.0f / 7) * square + 2.0f / 5) * square + 2.0f / 3));
}
#endif

static long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static long larger(long m, long n) { return m > n ? m : n; }
static long at_least_1(long n) { return larger(n, 1); }
