/* From samples to frames: windows, spectra, mel bands, logarithms, cosines; W frames at once. */

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (int_vec){__VA_ARGS__})
#endif

#define UNROLLED _Pragma("GCC unroll 8")

/* What a front end is; `bands`, `weights`, `first` and `length` are those of all warps, one after another. */
struct plan {
    int64_t window, hop, bins, mels, static_size, deltas, delta_width, cepstra, standardise, largest_band;
    struct transform transform;
    const real *shape;          /* (window,) the window function, halved where the window is even */
    const real *turn;           /* (bins, 2) cosine and sine of -2 pi k / window */
    const int64_t *first;         /* (warps, mels) the lowest bin of each band, and how many it has */
    const int64_t *length;
    const real *weights;        /* (warps, mels, largest_band) */
    const real *cosines;        /* (mels, static_size) */
    const real *delta_weights;    /* (deltas, widths, delta_width) weights of each width 3, 5, ... delta_width */
    double emphasis, floor, smallest_deviation;
};

/* Row k of W rows becomes lane k. */
static inline void transpose(vec *rows) {
#if defined(__AVX__) && !DOUBLE
    UNROLLED for (int k = 0; k < 8; k += 2) {
        const vec a = rows[k], b = rows[k + 1];
        rows[k] = SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
        rows[k + 1] = SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
    }
    UNROLLED for (int k = 0; k < 4; k++) {
        const int row = k + k / 2 * 2;    /* 0, 1, 4, 5 */
        const vec a = rows[row], b = rows[row + 2];
        rows[row] = SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
        rows[row + 2] = SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    }
    UNROLLED for (int k = 0; k < 4; k++) {
        const vec a = rows[k], b = rows[k + 4];
        rows[k] = SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
        rows[k + 4] = SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
#elif defined(__AVX__) || !DOUBLE
    for (int k = 0; k < 4; k += 2) {
        const vec a = rows[k], b = rows[k + 1];
        rows[k] = SHUFFLE(a, b, 0, 4, 2, 6);
        rows[k + 1] = SHUFFLE(a, b, 1, 5, 3, 7);
    }
    for (int k = 0; k < 2; k++) {
        const vec a = rows[k], b = rows[k + 2];
        rows[k] = SHUFFLE(a, b, 0, 1, 4, 5);
        rows[k + 2] = SHUFFLE(a, b, 2, 3, 6, 7);
    }
#else
    const vec a = rows[0], b = rows[1];
    rows[0] = SHUFFLE(a, b, 0, 2);
    rows[1] = SHUFFLE(a, b, 1, 3);
#endif
}

/* The windowed samples of the frames that start at from[0], from[1], ...: sample k of all of them in out[k]. */
static void windowed(const struct plan *plan, const float *const *from, vec *out) {
    int64_t k = 0;
    for (; k + W <= plan->window; k += W) {
        vec rows[W];
        UNROLLED for (int lane = 0; lane < W; lane++) rows[lane] = widened(from[lane] + k);
        transpose(rows);
        UNROLLED for (int lane = 0; lane < W; lane++) out[k + lane] = rows[lane] * plan->shape[k + lane];
    }
    for (; k < plan->window; k++)
        for (int lane = 0; lane < W; lane++) out[k][lane] = from[lane][k] * plan->shape[k];
}

static inline vec squared(pair a) { return a.re * a.re + a.im * a.im; }

/* The power of each bin. The transform of an even window is that of half as many complex points, even samples the real
   and odd samples the imaginary part: X[k] = E[k] + turn[k] O[k], X[half - k]* = E[k] - turn[k] O[k]. */
static void powers(const struct plan *plan, const pair *z, vec *power) {
    if (plan->window % 2) {
        for (int64_t k = 0; k < plan->bins; k++) power[k] = squared(z[k]);
        return;
    }
    const int64_t half = plan->window / 2;
    const vec first = 2 * (z[0].re + z[0].im), last = 2 * (z[0].re - z[0].im);
    power[0] = first * first;
    power[half] = last * last;
    for (int64_t k = 1; k <= half / 2; k++) {
        const pair a = z[k], b = z[half - k];
        const pair even = {a.re + b.re, a.im - b.im}, odd = {a.im + b.im, b.re - a.re};
        const pair other = turned(odd, plan->turn + 2 * k);
        power[k] = squared(add(even, other));
        power[half - k] = squared(subtract(even, other));
    }
}

/* ln v of positive normal numbers: v = 2^e m with m in [sqrt(1/2), sqrt(2)) */
static inline vec logarithm(vec v) {
#if DOUBLE    /* ln m = 2 (s + s^3 / 3 + ...) with s = (m - 1) / (m + 1), up to s^15: error 1e-14 */
    const bits root = 0x3fe6a09e667f3bcdu;    /* of sqrt(1/2) */
    const vec_bits from = (vec_bits)v - root;
    const vec_bits exponent = ((from + (1024ull << 52)) >> 52) + 0x4338000000000000u;    /* a double, with 1.5 * 2^52 */
    const vec e = (vec)exponent - (6755399441055744.0 + 1024);
    const vec m = (vec)((from & 0x000fffffffffffffu) + root), s = (m - 1) / (m + 1), square = s * s;
    vec p = square * (1.0 / 15) + 1.0 / 13;
    p = p * square + 1.0 / 11;
    p = p * square + 1.0 / 9;
    p = p * square + 1.0 / 7;
    p = p * square + 1.0 / 5;
    p = p * square + 1.0 / 3;
    return e * 0.693147180559945309 + 2 * (s + s * square * p);
#else    /* a polynomial in m - 1 (Moshier's logf of Cephes, 1 unit in the last place) */
    const int_vec from = (int_vec)v - 0x3f3504f3;    /* of sqrt(1/2) */
    const int_vec exponent = from >> 23;
    const vec m = (vec)((from & 0x007fffff) + 0x3f3504f3) - 1.0f, square = m * m;
    vec p = broadcast(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const vec e = __builtin_convertvector(exponent, vec);
    return m + (p * m * square + (e * -2.12194440e-4f - 0.5f * square)) + e * 0.693359375f;
#endif
}

/* max(v, floor), NaN where v is */
static inline vec at_least(vec v, real floor) {
    const vec low = broadcast(floor);
    const int_vec below = v < low;
    return (vec)((below & (int_vec)low) | (~below & (int_vec)v));
}
static inline vec unless_finite(vec v, vec then) {
    const int_vec finite = (v - v) == (vec){0};
    return (vec)((finite & (int_vec)then) | (~finite & (int_vec)v));
}

/* The frames that start at from[0], from[1], ...: (static_size,) vecs. `work` holds 4 * window + mels of them. */
static void static_frames(const struct plan *plan, int64_t warp, const float *const *from, vec *work, vec *out) {
    vec *other = work + 2 * plan->window, *power = other, *energy;
    windowed(plan, from, work);
    if (plan->window % 2) {    /* no imaginary part */
        for (int64_t k = plan->window - 1; k >= 0; k--) work[2 * k] = work[k], work[2 * k + 1] = (vec){0};
    }
    const pair *z = transformed(&plan->transform, (pair *)work, (pair *)other);
    if ((vec *)z == other) power = work;
    powers(plan, z, power);
    energy = plan->cepstra ? other + 2 * plan->window : out;
    const int64_t *first = plan->first + warp * plan->mels, *length = plan->length + warp * plan->mels;
    for (int64_t band = 0; band < plan->mels; band++) {
        const real *weight = plan->weights + (warp * plan->mels + band) * plan->largest_band;
        const vec *bin = power + first[band];
        vec sum = {0}, more = {0};
        int64_t k = 0;
        for (; k + 2 <= length[band]; k += 2) sum += bin[k] * weight[k], more += bin[k + 1] * weight[k + 1];
        if (k < length[band]) sum += bin[k] * weight[k];
        sum += more;
        energy[band] = unless_finite(sum, logarithm(at_least(sum, (real)plan->floor)));
    }
    if (!plan->cepstra) return;
    int64_t c = 0;
    for (; c + 4 <= plan->static_size; c += 4) {
        vec a = {0}, b = {0}, d = {0}, e = {0};
        for (int64_t band = 0; band < plan->mels; band++) {
            const real *cosine = plan->cosines + band * plan->static_size + c;
            a += energy[band] * cosine[0], b += energy[band] * cosine[1];
            d += energy[band] * cosine[2], e += energy[band] * cosine[3];
        }
        out[c] = a, out[c + 1] = b, out[c + 2] = d, out[c + 3] = e;
    }
    for (; c < plan->static_size; c++) {
        vec sum = {0};
        for (int64_t band = 0; band < plan->mels; band++)
            sum += energy[band] * plan->cosines[band * plan->static_size + c];
        out[c] = sum;
    }
}
