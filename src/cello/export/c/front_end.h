/* From samples to frames: window, Fourier transform, power, mel bands, logarithm, cosines. WIDE numbers are worked on at
   once. */

#if LANES > 1
enum { WIDE = LANE_BYTES * LANES / (int)sizeof(model_real) };
typedef model_real wide __attribute__((vector_size(LANE_BYTES * LANES)));
typedef model_real wide_anywhere __attribute__((vector_size(LANE_BYTES * LANES), aligned(4), may_alias));

LOCAL wide load_wide(const model_real *p) { return *(const wide_anywhere *)p; }
LOCAL void store_wide(model_real *p, wide v) { *(wide_anywhere *)p = v; }
LOCAL wide spread(model_real v) { return v - (wide){0}; }
#else
enum { WIDE = 1 };
typedef model_real wide;

LOCAL wide load_wide(const model_real *p) { return *p; }
LOCAL void store_wide(model_real *p, wide v) { *p = v; }
LOCAL wide spread(model_real v) { return v; }
#endif

#if MODEL_DOUBLE
#if LANES > 1
typedef uint64_t wide_bits __attribute__((vector_size(LANE_BYTES * LANES)));
LOCAL wide_bits bits_of_wide(wide v) { return (wide_bits)v; }
LOCAL wide wide_from_bits(wide_bits b) { return (wide)b; }
#define CHOOSE_WIDE(condition, then, otherwise) \
    wide_from_bits(((wide_bits)(condition) & bits_of_wide(then)) | (~(wide_bits)(condition) & bits_of_wide(otherwise)))
#else
typedef uint64_t wide_bits;
LOCAL wide_bits bits_of_wide(wide v) { wide_bits b; memcpy(&b, &v, sizeof b); return b; }
LOCAL wide wide_from_bits(wide_bits b) { wide v; memcpy(&v, &b, sizeof v); return v; }
#define CHOOSE_WIDE(condition, then, otherwise) ((condition) ? (then) : (otherwise))
#endif

/* NaN where v is */
LOCAL wide at_least(wide v, model_real floor) { return CHOOSE_WIDE(v < spread(floor), spread(floor), v); }

/* ln v of positive normal numbers: v = 2^e m with m in [sqrt(1/2), sqrt(2)), and ln m = 2 (s + s^3 / 3 + ...) with
   s = (m - 1) / (m + 1), up to s^15 (error 1e-14). The exponent becomes a double in the lowest bits of 1.5 * 2^52. */
LOCAL wide natural_logarithm(wide v) {
    const wide_bits from = bits_of_wide(v) - 0x3fe6a09e667f3bcdu;    /* of sqrt(1/2) */
    const wide e = wide_from_bits(((from + ((uint64_t)1024 << 52)) >> 52) + 0x4338000000000000u) - 6755399441056768.0;
    const wide m = wide_from_bits((from & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    const wide s = (m - 1.0) / (m + 1.0), square = s * s;
    wide p = square * (1.0 / 15) + 1.0 / 13;
    p = p * square + 1.0 / 11;
    p = p * square + 1.0 / 9;
    p = p * square + 1.0 / 7;
    p = p * square + 1.0 / 5;
    p = p * square + 1.0 / 3;
    p = e * 0.693147180559945309 + 2.0 * (s + s * square * p);
    return CHOOSE_WIDE(v - v == spread(0), p, v);    /* infinite, or NaN */
}
#else
LOCAL wide at_least(wide v, model_real floor) { return maximum(v, broadcast(floor)); }
LOCAL wide natural_logarithm(wide v) { return logarithm(v); }
#endif

typedef struct { wide re, im; } pair;
LOCAL pair plus(pair a, pair b) { return (pair){a.re + b.re, a.im + b.im}; }
LOCAL pair minus(pair a, pair b) { return (pair){a.re - b.re, a.im - b.im}; }
/* a turned by the angle with this cosine and sine */
LOCAL pair turned(pair a, wide cosine, wide sine) {
    return (pair){a.re * cosine - a.im * sine, a.re * sine + a.im * cosine};
}

/* Where the points of WIDE butterflies of a step are: point k of lane l is read at in + k * step_in + l, output j is
   turned by j * (turn + l * turn_lane) / POINTS of a circle and written at out + j * step_out + l * step_lane. Imaginary
   parts lie PART behind the real ones. */
struct place {
    const model_real *in;
    model_real *out;
    int step_in, step_out, step_lane, lanes, turn, turn_lane;
};

LOCAL pair get(const struct place *at, int k) {
    const model_real *p = at->in + k * at->step_in;
    return (pair){load_wide(p), load_wide(p + PART)};
}

LOCAL void scatter(const struct place *at, model_real *p, wide v) {
    model_real values[WIDE];
    store_wide(values, v);
    for (int l = 0; l < at->lanes; l++) p[l * at->step_lane] = values[l];
}

LOCAL void put(const struct place *at, int j, pair v) {
    model_real *p = at->out + j * at->step_out;
    if (at->turn_lane) {
        model_real cosines[WIDE], sines[WIDE];
        for (int l = 0; l < WIDE; l++) {
            const model_real *angle = circle[l < at->lanes ? j * (at->turn + l) : 0];
            cosines[l] = angle[0], sines[l] = angle[1];
        }
        v = turned(v, load_wide(cosines), load_wide(sines));
    } else if (at->turn) {
        const model_real *angle = circle[j * at->turn];
        v = turned(v, spread(angle[0]), spread(angle[1]));
    }
    if (at->step_lane == 1 && at->lanes == WIDE) {
        store_wide(p, v.re);
        store_wide(p + PART, v.im);
    } else {
        scatter(at, p, v.re);
        scatter(at, p + PART, v.im);
    }
}
#if RADIX_2

static void by_2(const struct place *at) {
    const pair a = get(at, 0), b = get(at, 1);
    put(at, 0, plus(a, b));
    put(at, 1, minus(a, b));
}
#endif
#if RADIX_3

static void by_3(const struct place *at) {
    const model_real half = (model_real)0.5, sine = (model_real)0.866025403784438647;
    const pair a = get(at, 0), b = get(at, 1), c = get(at, 2), sum = plus(b, c), difference = minus(b, c);
    const pair middle = {a.re - half * sum.re, a.im - half * sum.im};
    const pair side = {sine * difference.im, -sine * difference.re};
    put(at, 0, plus(a, sum));
    put(at, 1, plus(middle, side));
    put(at, 2, minus(middle, side));
}
#endif
#if RADIX_4

static void by_4(const struct place *at) {
    const pair a = get(at, 0), b = get(at, 1), c = get(at, 2), d = get(at, 3);
    const pair even = plus(a, c), odd = plus(b, d), left = minus(a, c), across = minus(b, d);
    const pair right = {across.im, -across.re};
    put(at, 0, plus(even, odd));
    put(at, 1, plus(left, right));
    put(at, 2, minus(even, odd));
    put(at, 3, minus(left, right));
}
#endif
#if RADIX_5

static void by_5(const struct place *at) {
    const model_real cos1 = (model_real)0.309016994374947424, cos2 = (model_real)-0.809016994374947424;
    const model_real sin1 = (model_real)0.951056516295153572, sin2 = (model_real)0.587785252292473129;
    const pair a = get(at, 0), b = get(at, 1), c = get(at, 2), d = get(at, 3), e = get(at, 4);
    const pair be = plus(b, e), cd = plus(c, d), b_e = minus(b, e), c_d = minus(c, d);
    const pair one = {a.re + cos1 * be.re + cos2 * cd.re, a.im + cos1 * be.im + cos2 * cd.im};
    const pair two = {a.re + cos2 * be.re + cos1 * cd.re, a.im + cos2 * be.im + cos1 * cd.im};
    const pair first = {sin1 * b_e.im + sin2 * c_d.im, -(sin1 * b_e.re + sin2 * c_d.re)};
    const pair second = {sin2 * b_e.im - sin1 * c_d.im, -(sin2 * b_e.re - sin1 * c_d.re)};
    put(at, 0, plus(a, plus(be, cd)));
    put(at, 1, plus(one, first));
    put(at, 2, plus(two, second));
    put(at, 3, minus(two, second));
    put(at, 4, minus(one, first));
}
#endif
#if RADIX_8

static void by_8(const struct place *at) {
    const model_real half = (model_real)0.707106781186547524;
    const pair i0 = get(at, 0), i1 = get(at, 1), i2 = get(at, 2), i3 = get(at, 3);
    const pair i4 = get(at, 4), i5 = get(at, 5), i6 = get(at, 6), i7 = get(at, 7);
    const pair a = plus(i0, i4), b = plus(i1, i5), c = plus(i2, i6), d = plus(i3, i7);
    const pair e = minus(i0, i4), f = minus(i1, i5), g = minus(i2, i6), h = minus(i3, i7);
    const pair ac = plus(a, c), bd = plus(b, d), a_c = minus(a, c), b_d = minus(b, d);
    const pair quarter = {b_d.im, -b_d.re};
    const pair f1 = {half * (f.re + f.im), half * (f.im - f.re)};    /* f turned by an eighth, h by three */
    const pair h3 = {half * (h.im - h.re), -half * (h.re + h.im)};
    const pair g2 = {g.im, -g.re};
    const pair eg = plus(e, g2), e_g = minus(e, g2), fh = plus(f1, h3), f_h = minus(f1, h3);
    const pair back = {f_h.im, -f_h.re};
    put(at, 0, plus(ac, bd));
    put(at, 1, plus(eg, fh));
    put(at, 2, plus(a_c, quarter));
    put(at, 3, plus(e_g, back));
    put(at, 4, minus(ac, bd));
    put(at, 5, minus(eg, fh));
    put(at, 6, minus(a_c, quarter));
    put(at, 7, minus(e_g, back));
}
#endif
#if RADIX_ANY

static void by_any(const struct place *at, int radix) {
    const int share = POINTS / radix;
    for (int j = 0; j < radix; j++) {
        pair sum = get(at, 0);
        for (int k = 1, angle = j; k < radix; k++, angle = (angle + j) % radix) {
            const model_real *turn = circle[angle * share];
            sum = plus(sum, turned(get(at, k), spread(turn[0]), spread(turn[1])));
        }
        put(at, j, sum);
    }
}
#endif

static void butterflies(int radix, const struct place *at) {
    switch (radix) {
#if RADIX_2
        case 2: by_2(at); break;
#endif
#if RADIX_3
        case 3: by_3(at); break;
#endif
#if RADIX_4
        case 4: by_4(at); break;
#endif
#if RADIX_5
        case 5: by_5(at); break;
#endif
#if RADIX_8
        case 8: by_8(at); break;
#endif
#if RADIX_ANY
        default: by_any(at, radix);
#endif
    }
}

/* Stockham's transform of POINTS complex points in x, which lies in x or in other afterwards: that one is returned. At a
   step `done` transforms of radix * left points each are left: point k * left + p of transform q stands at
   q + done * (k * left + p), and output j goes to q + done * (radix * p + j). */
static model_real *transform(model_real *x, model_real *other) {
    int left = POINTS, done = 1;
    for (int step = 0; step < (int)(sizeof radices / sizeof *radices); step++) {
        const int radix = radices[step];
        left /= radix;
        for (int p = 0; p < (done == 1 ? 1 : left); p++) {
            const int count = done == 1 ? left : done;
            for (int q = 0; q < count; q += WIDE) {
                struct place at;
                at.lanes = count - q < WIDE ? count - q : WIDE;
                at.step_in = done * left, at.step_out = done;
                at.in = x + done * p + q, at.out = other + (done * p * radix) + q;
                at.step_lane = 1, at.turn = p * done, at.turn_lane = 0;
                if (done == 1) at.out = other + q * radix, at.step_lane = radix, at.turn = q, at.turn_lane = 1;
                butterflies(radix, &at);
            }
        }
        done *= radix;
        model_real *const from = other;
        other = x;
        x = from;
    }
    return x;
}

/* The power of each bin. The transform of an even window is that of half as many complex points, even samples the real
   and odd samples the imaginary part; the window function is halved for it. */
static void powers(const model_real *re, model_real *power) {
    const model_real *im = re + PART;
#if EVEN
    const model_real first = 2 * (re[0] + im[0]), last = 2 * (re[0] - im[0]);
    power[0] = first * first;
    power[POINTS] = last * last;
    for (int k = 1; k <= POINTS / 2; k++) {
        const int m = POINTS - k;
        const model_real even_re = re[k] + re[m], even_im = im[k] - im[m], odd_re = im[k] + im[m], odd_im = re[m] - re[k];
        const model_real a = odd_re * half_turn[k][0] - odd_im * half_turn[k][1];
        const model_real b = odd_re * half_turn[k][1] + odd_im * half_turn[k][0];
        power[k] = (even_re + a) * (even_re + a) + (even_im + b) * (even_im + b);
        power[m] = (even_re - a) * (even_re - a) + (even_im - b) * (even_im - b);
    }
#else
    for (int k = 0; k < BINS; k++) power[k] = re[k] * re[k] + im[k] * im[k];
#endif
}

/* The features of a window of samples, without deltas; a band's weights are padded to a multiple of 4. */
static void analyse(const float *samples, model_real *scratch, model_real *out) {
    model_real *const x = scratch, *const other = x + 2 * PART, *const energy = other + 2 * PART;
#if EVEN
    for (int k = 0; k < POINTS; k++) {
        x[k] = samples[2 * k] * shape[2 * k];
        x[PART + k] = samples[2 * k + 1] * shape[2 * k + 1];
    }
#else
    for (int k = 0; k < POINTS; k++) {
        x[k] = samples[k] * shape[k];
        x[PART + k] = 0;
    }
#endif
    const model_real *const spectrum = transform(x, other), *weight = mel_weights;
    model_real *const power = spectrum == x ? other : x;
    powers(spectrum, power);
    power[BINS] = power[BINS + 1] = power[BINS + 2] = 0;
    for (int band = 0; band < MELS; band++) {
        const model_real *p = power + mel_first[band];
        model_real a = 0, b = 0, c = 0, d = 0;
        for (int k = 0; k < mel_length[band]; k += 4, p += 4, weight += 4)
            a += p[0] * weight[0], b += p[1] * weight[1], c += p[2] * weight[2], d += p[3] * weight[3];
        energy[band] = (a + b) + (c + d);
    }
    for (int band = MELS; band < PADDED_MELS; band++) energy[band] = 1;
    for (int band = 0; band < PADDED_MELS; band += WIDE)
        store_wide(energy + band, natural_logarithm(at_least(load_wide(energy + band), LOG_FLOOR)));
#if CEPSTRA
    for (int k = 0; k < PADDED_FEATURES; k += WIDE) {
        wide sum = spread(0);
        for (int band = 0; band < MELS; band++)
            sum = sum + spread(energy[band]) * load_wide(cosines + band * PADDED_FEATURES + k);
        store_wide(out + k, sum);
    }
#else
    memcpy(out, energy, STATIC_FEATURES * sizeof(model_real));
#endif
}
