/* What every generated kernel stands on: vectors of `real` numbers, the functions of the cell language, two products.

   A vec holds V numbers. Rows are P numbers long, H rounded up to a multiple of unit(), so that no loop over
   units has a remainder; what lies beyond H is never mixed with what lies before it. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8, WIDE = 2 };    /* 32 registers: 16 hold sums */
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 4, WIDE = 2 };    /* 16 registers: 8 hold sums */
#else
enum { BYTES = 16, ROWS = 4, WIDE = 4 };    /* NEON, 32 registers: 16 hold sums */
#endif
enum { V = BYTES / sizeof(real), PANEL = V * WIDE, TILE = 32, CHUNK = 4 };

typedef real vec __attribute__((vector_size(BYTES)));
typedef integer mask __attribute__((vector_size(BYTES)));
typedef real anywhere __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

static inline vec load(const real *p) { return *(const anywhere *)p; }
static inline void store(real *p, vec v) { *(anywhere *)p = v; }
static inline void gather(real *p, vec v) { store(p, load(p) + v); }
static inline vec all(real v) { return v - (vec){0}; }

/* then where the condition holds, otherwise elsewhere */
static inline vec choose(mask condition, vec then, vec otherwise) {
    return (vec)((condition & (mask)then) | (~condition & (mask)otherwise));
}
static inline vec where(vec a, vec b, vec u, vec v) { return choose(a > b, u, v); }
static inline vec maximum(vec a, vec b) { return choose(a > b, a, choose(b >= a, b, a + b)); }
static inline vec minimum(vec a, vec b) { return choose(a < b, a, choose(b <= a, b, a + b)); }
static inline vec relu(vec v) { return choose(v < all(0), all(0), v); }
static inline vec absolute(vec v) { return choose(v < all(0), -v, v); }

#define LANE_BY_LANE(name, function) \
    static inline vec name(vec v) { for (int k = 0; k < V; k++) v[k] = function(v[k]); return v; }

#if DOUBLE
LANE_BY_LANE(exponential, exp)
LANE_BY_LANE(hyperbolic, tanh)
LANE_BY_LANE(logarithm, log)
LANE_BY_LANE(logarithm_of_1_plus, log1p)
LANE_BY_LANE(root, sqrt)
#else
LANE_BY_LANE(logarithm, logf)
LANE_BY_LANE(logarithm_of_1_plus, log1pf)
LANE_BY_LANE(root, sqrtf)

static inline vec clamped(vec v, real low, real high) {    /* NaN stays NaN */
    return choose(v < all(low), all(low), choose(v > all(high), all(high), v));
}

/* v = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1, by Taylor's series to r^7 (error 5e-9), and n in *n. */
static inline vec reduced(vec v, mask *n) {
    const vec shift = all(12582912.0f);    /* 1.5 * 2^23: adding it rounds to a whole number in the lowest bits */
    const vec rounded = v * 1.44269504f + shift;
    const vec whole = rounded - shift;
    *n = (mask)rounded - (mask)shift;
    const vec r = v - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = all(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    return p * r;
}
static inline vec power_of_2(mask n) { return (vec)((n + 127) << 23); }

static inline vec exponential(vec v) {
    mask n;
    const vec e = reduced(clamped(v, -87.0f, 100.0f), &n) + 1.0f;
    const mask half = n >> 1;
    return e * power_of_2(half) * power_of_2(n - half);    /* two factors, so that what is too large is infinite */
}

/* tanh v = m / (m + 2) with m = exp(2 v) - 1, which keeps its digits around 0 */
static inline vec hyperbolic(vec v) {
    mask n;
    const vec e = reduced(clamped(v, -10.0f, 10.0f) * 2.0f, &n);
    const vec scale = power_of_2(n);
    const vec m = e * scale + (scale - 1.0f);
    return m / (m + 2.0f);
}
#endif

static inline vec sigmoid(vec v) { return 1 / (1 + exponential(-v)); }
static inline vec softplus(vec v) { return relu(v) + logarithm_of_1_plus(exponential(-absolute(v))); }

long unit(void) { return V > ROWS ? V : ROWS; }
long panel(void) { return PANEL; }
long tile(void) { return TILE; }

/* A matrix of n rows and m columns, whose element (k, j) is at k * down + j * right, as panels of PANEL columns,
   (m / PANEL, n, PANEL), filled up with zeros. */
void pack(const real *matrix, long n, long m, long down, long right, real *packed) {
    for (long j = 0; j < m; j += PANEL)
        for (long k = 0; k < n; k++)
            for (long i = 0; i < PANEL; i++) *packed++ = j + i < m ? matrix[k * down + (j + i) * right] : 0;
}

/* ROWS rows and `wide` vecs of a product: start + v (., K) times a panel; the rows lie vs, ss and os numbers apart. */
static inline __attribute__((always_inline)) void block(const int wide, long K, const real *v, long vs, const real *panel,
                                                        const real *start, long ss, real *out, long os) {
    vec sum[ROWS][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sum[i][w] = start ? load(start + i * ss + w * V) : all(0);
    for (long k = 0; k < K; k++, panel += PANEL)
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
            for (int w = 0; w < wide; w++) sum[i][w] += v[i * vs + k] * load(panel + w * V);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) store(out + i * os + w * V, sum[i][w]);
}

/* out (n, N) = start + v (n, K) times a packed matrix; n is rounded up to ROWS. */
static void product(long n, long K, long N, const real *v, long vs, const real *packed, const real *start, long ss,
                    real *out, long os) {
    for (long j = 0; j < N; j += PANEL)
        for (long r = 0; r < n; r += ROWS) {
            const real *from = start ? start + r * ss + j : NULL, *panel = packed + j * K;
            if (N - j >= PANEL)
                block(WIDE, K, v + r * vs, vs, panel, from, ss, out + r * os + j, os);
            else
                for (long w = 0; w < N - j; w += V)
                    block(1, K, v + r * vs, vs, panel + w, from ? from + w : NULL, ss, out + r * os + j + w, os);
        }
}

/* ROWS rows and `wide` vecs of out += the sum over steps and rows of a' b. */
static inline __attribute__((always_inline)) void outer_block(const int wide, long steps, long rows, const real *a, long as,
                                                              long askip, const real *b, long bs, long bskip, real *out, long os) {
    vec sum[ROWS][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sum[i][w] = load(out + i * os + w * V);
    for (long s = 0; s < steps; s++) {
        const real *p = a + s * askip, *q = b + s * bskip;
        for (long r = 0; r < rows; r++, p += as, q += bs)
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
                for (int w = 0; w < wide; w++) sum[i][w] += p[i] * load(q + w * V);
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) store(out + i * os + w * V, sum[i][w]);
}

/* out (M, N) += a' b for a (rows, M) and b (rows, N), summed over `steps` of them that lie askip and bskip apart. */
static void outer(long steps, long rows, long M, long N, const real *a, long as, long askip, const real *b, long bs,
                  long bskip, real *out) {
    for (long k = 0; k < N; k += PANEL)
        for (long j = 0; j < M; j += ROWS)
            if (N - k >= PANEL)
                outer_block(WIDE, steps, rows, a + j, as, askip, b + k, bs, bskip, out + j * N + k, N);
            else
                for (long w = k; w < N; w += V)
                    outer_block(1, steps, rows, a + j, as, askip, b + w, bs, bskip, out + j * N + w, N);
}

enum { MANY = CHUNK * TILE };

/* out (n, N) = bias (N) + frames (n, D) times a packed matrix; 1 if there is no memory. */
int affine(long n, long D, long N, const real *frames, const real *packed, const real *bias, real *out) {
    const long whole = n / ROWS * ROWS;
    for (long r = 0; r < whole; r += TILE) {
        const long rows = whole - r < TILE ? whole - r : TILE;
        product(rows, D, N, frames + r * D, D, packed, bias, 0, out + r * N, N);
    }
    if (whole == n) return 0;
    real *rest = calloc(ROWS * (D + N), sizeof(real));
    if (!rest) return 1;
    memcpy(rest, frames + whole * D, (n - whole) * D * sizeof(real));
    product(ROWS, D, N, rest, D, packed, bias, 0, rest + ROWS * D, N);
    memcpy(out + whole * N, rest + ROWS * D, (n - whole) * N * sizeof(real));
    free(rest);
    return 0;
}

/* The derivatives of affine: of the frames (n, D), and added to those of the matrix (N, E) and of the bias (N); E is D
   rounded up to unit(). */
int affine_back(long n, long D, long N, const real *frames, const real *packed, const real *d_out, real *d_frames,
                real *d_matrix, real *d_bias) {
    const long E = (D + unit() - 1) / unit() * unit();
    real *room = calloc(2 * MANY * E + ROWS * N, sizeof(real));
    if (!room) return 1;
    real *own = room, *d_own = own + MANY * E, *rest = d_own + MANY * E;
    for (long r = 0; r < n; r += MANY) {
        const long rows = n - r < MANY ? n - r : MANY, whole = rows / ROWS * ROWS;
        const real *d = d_out + r * N;
        for (long i = 0; i < rows; i++) memcpy(own + i * E, frames + (r + i) * D, D * sizeof(real));
        outer(1, rows, N, E, d, N, 0, own, E, 0, d_matrix);
        for (long j = 0; j < N; j += V) {
            vec sum = load(d_bias + j);
            for (long i = 0; i < rows; i++) sum += load(d + i * N + j);
            store(d_bias + j, sum);
        }
        if (!d_frames) continue;
        product(whole, N, E, d, N, packed, NULL, 0, d_own, E);
        if (whole < rows) {
            memcpy(rest, d + whole * N, (rows - whole) * N * sizeof(real));
            product(ROWS, N, E, rest, N, packed, NULL, 0, d_own + whole * E, E);
        }
        for (long i = 0; i < rows; i++) memcpy(d_frames + (r + i) * D, d_own + i * E, D * sizeof(real));
    }
    free(room);
    return 0;
}
