/* Attention pooling over the outputs y (B, T, H) of B clips, each of `length` frames: forward
       score[t] = w · y[t] + b,   weight = softmax(score) over the clip's frames,   pooled = sum of weight[t] y[t],
   and backward. A clip is read twice, the second time from the cache. What lies after its end is not read. */

static inline long within(int64_t length, long T) { return length < 0 ? 0 : length < T ? length : T; }

static inline real lanes(vec v) {
    real part[V];
    store(part, v);
#pragma GCC unroll 4
    for (int half = V / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int k = 0; k < half; k++) part[k] += part[k + half];
    return part[0];
}

static inline real dot(const real *a, const real *b, long n) {
    vec sum = {0};
    long j = 0;
    for (; j + V <= n; j += V) sum += load(a + j) * load(b + j);
    if (j < n) sum += load_some(a + j, n - j) * load_some(b + j, n - j);
    return lanes(sum);
}

/* row += factor * other */
static inline void add_row(real *row, real factor, const real *other, long n) {
    long j = 0;
    for (; j + V <= n; j += V) store(row + j, load(row + j) + factor * load(other + j));
    for (; j < n; j++) row[j] += factor * other[j];
}

static void softmax(real *row, long n) {
    real highest = row[0], total = 0;
    for (long t = 1; t < n; t++) highest = row[t] > highest ? row[t] : highest;
    long t = 0;
    for (; t + V <= n; t += V) store(row + t, exponential(load(row + t) - highest));
    if (t < n) store_some(row + t, exponential(load_some(row + t, n - t) - highest), n - t);
    for (t = 0; t < n; t++) total += row[t];
    for (t = 0; t < n; t++) row[t] /= total;
}

int attention_forward(const real *y, const real *w, const real *b, const int64_t *length, real *weight, real *pooled,
                       long B, long T, long H) {
    for (long clip = 0; clip < B; clip++, y += T * H, weight += T, pooled += H) {
        const long n = within(length[clip], T);
        memset(weight, 0, T * sizeof(real));
        memset(pooled, 0, H * sizeof(real));
        if (!n) continue;
        for (long t = 0; t < n; t++) weight[t] = dot(y + t * H, w, H) + *b;
        softmax(weight, n);
        for (long t = 0; t < n; t++) add_row(pooled, weight[t], y + t * H, H);
    }
    return 0;
}

/* From the derivatives of pooled: those of y, and of w added up over the clips. That of b is 0, as a softmax does not
   see what all scores have in common. `scratch` is T + H elements. */
int attention_backward(const real *y, const real *w, const int64_t *length, const real *weight, const real *d_pooled,
                        real *d_y, real *d_w, real *scratch, long B, long T, long H) {
    real *const d_score = scratch, *const own = scratch + T;
    memset(d_w, 0, H * sizeof(real));
    for (long clip = 0; clip < B; clip++, y += T * H, d_y += T * H, weight += T, d_pooled += H) {
        const long n = within(length[clip], T);
        real mean = 0;
        for (long t = 0; t < n; t++) {
            d_score[t] = dot(y + t * H, d_pooled, H);
            mean += weight[t] * d_score[t];
        }
        memset(own, 0, H * sizeof(real));
        for (long t = 0; t < n; t++) {
            const real slope = weight[t] * (d_score[t] - mean), share = weight[t];
            real *to = d_y + t * H;
            long j = 0;
            for (; j + V <= H; j += V) store(to + j, share * load(d_pooled + j) + slope * load(w + j));
            for (; j < H; j++) to[j] = share * d_pooled[j] + slope * w[j];
            add_row(own, slope, y + t * H, H);
        }
        memset(d_y + n * H, 0, (T - n) * H * sizeof(real));
        for (long j = 0; j < H; j++) d_w[j] += own[j];
    }
    return 0;
}
