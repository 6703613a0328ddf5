/* Some clips' frames, of all that lie end to end, as a batch (B, T, D) that a network reads: standardised, some of it
   masked, zero after each clip's end. Each clip is finished before the next is read. */

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
enum { V = BYTES / sizeof(float) };
typedef float vec __attribute__((vector_size(BYTES), aligned(sizeof(float)), may_alias));

/* One random stretch: how wide, of at most `widest` places, and where, of `size`. */
struct stretch { int64_t start, width; };
static struct stretch stretch_of(float wide, float where, int64_t widest, int64_t size) {
    struct stretch found = {0, (int64_t)(wide * (float)(widest + 1))};
    found.start = (int64_t)(where * (float)(size - found.width + 1));
    if (found.start + found.width > size) found.start = size - found.width;    /* draws are below 1, so never */
    return found;
}

int64_t vec_length(void) { return V; }

/* (from - mean) / deviation of n elements. The two are repeated V times, so that whole vecs go through them in turn. */
static void standardise(const float *from, float *x, int64_t n, const float *mean, const float *deviation,
                        int64_t period) {
    int64_t k = 0, at = 0;
    for (; k + V <= n; k += V, at = at + V == period ? 0 : at + V)
        *(vec *)(x + k) = (*(const vec *)(from + k) - *(const vec *)(mean + at)) / *(const vec *)(deviation + at);
    for (; k < n; k++, at++) x[k] = (from[k] - mean[at]) / deviation[at];
}

static void mask_columns(float *x, int64_t T, int64_t D, struct stretch columns, int64_t statics) {
    for (int64_t t = 0; t < T; t++, x += D)
        for (int64_t first = columns.start; first < D; first += statics)
            for (int64_t k = 0; k < columns.width; k++) x[first + k] = 0;
}

/* Clip c of all has `counts[c]` frames from frame `starts[c]` of `flat` on, which has `frames`; those of the batch are
   `chosen`. Returns 1 where one does not lie within. `times` and `bands` are (2, B, their number) uniform draws: the widths of stretches of frames and of coefficients, and
   where they start. No stretch of frames is wider than `longest`, or half of its clip. `rows` is 2 V D elements. */
int prepare(const float *flat, int64_t frames, const int64_t *starts, const int64_t *counts, const int64_t *chosen,
            float *x, const float *mean, const float *deviation, float *rows, const float *times, int64_t n_times,
            int64_t longest, const float *bands, int64_t n_bands, int64_t widest, int64_t statics, int64_t B, int64_t T,
            int64_t D) {
    float *const means = rows, *const deviations = rows + V * D;
    for (int64_t k = 0; k < V; k++) {
        memcpy(means + k * D, mean, D * sizeof(float));
        memcpy(deviations + k * D, deviation, D * sizeof(float));
    }
    for (int64_t clip = 0; clip < B; clip++, x += T * D) {
        if (chosen[clip] < 0) return 1;
        const int64_t n = counts[chosen[clip]], first = starts[chosen[clip]];
        if (n < 0 || n > T || first < 0 || first + n > frames) return 1;
        standardise(flat + first * D, x, n * D, means, deviations, V * D);
        memset(x + n * D, 0, (T - n) * D * sizeof(float));
        for (int64_t k = clip * n_times; k < (clip + 1) * n_times; k++) {
            const struct stretch found = stretch_of(times[k], times[B * n_times + k], n / 2 < longest ? n / 2 : longest, n);
            memset(x + found.start * D, 0, found.width * D * sizeof(float));
        }
        for (int64_t k = clip * n_bands; k < (clip + 1) * n_bands; k++)
            mask_columns(x, n, D, stretch_of(bands[k], bands[B * n_bands + k], widest, statics), statics);
    }
    return 0;
}
