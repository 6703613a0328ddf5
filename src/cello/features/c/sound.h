/* A clip's samples as training hears them: at another speed, moved in time, with noise. */

enum { INT16, FLOAT32 };
typedef int16_t pcm __attribute__((vector_size(V * sizeof(int16_t))));

struct clip {
    const void *samples;
    int64_t kind, length;         /* of the samples as stored */
    int64_t kept;                 /* samples at the new speed; all of them where the speed stays */
    double rate, from;            /* y[t] = x(from + rate t); rate 0 leaves the speed as it is */
    int64_t move;                 /* samples later */
    const float *noise;           /* NULL: none */
    int64_t noise_length, noise_start;
    double gain;                  /* the noise's root mean square over the clip's */
    int64_t warp, frames;
    float *out;                   /* (frames, dimensions), then zeros up to out_frames */
    int64_t out_frames;
};

/* Neighbouring samples at V places below 16, the first ones in a, those after them in b; reads 32 samples. */
static inline void pcm_neighbours(const int16_t *x, mask at, floats *a, floats *b) {
#if defined(__AVX512BW__)
    const __m512i near = _mm512_loadu_si512(x), two = _mm512_castsi256_si512((__m256i)(at + ((at + 1) << 16)));
    const mask both = (mask)_mm512_castsi512_si256(_mm512_permutexvar_epi16(two, near));
    *a = __builtin_convertvector(both << 16 >> 16, floats), *b = __builtin_convertvector(both >> 16, floats);
#else
    for (int lane = 0; lane < V; lane++) (*a)[lane] = x[at[lane]], (*b)[lane] = x[at[lane] + 1];
#endif
}
static inline void float_neighbours(const float *x, mask at, floats *a, floats *b) {
#if defined(__AVX512VL__)
    const __m256i places = (__m256i)at;
    *a = (floats)_mm256_permutex2var_ps((__m256)load(x), places, (__m256)load(x + 8));
    *b = (floats)_mm256_permutex2var_ps((__m256)load(x + 1), places, (__m256)load(x + 9));
#else
    for (int lane = 0; lane < V; lane++) (*a)[lane] = x[at[lane]], (*b)[lane] = x[at[lane] + 1];
#endif
}

/* y[t] = x(from + rate (first + t)), linear between samples, rate < 2. The place of the first of V samples is taken in
   double precision, for minutes have many samples; the next ones lie less than 16 from it, in steps of 2^-28. */
#define AT_SPEED(name, neighbours, type, scale) \
    static void name(const void *samples, int64_t length, double rate, double from, int64_t first, int64_t n, float *y) { \
        const type *x = samples; \
        mask steps; \
        for (int lane = 0; lane < V; lane++) steps[lane] = (int32_t)(uint32_t)(lane * rate * (1 << 28) + 0.5); \
        int64_t t = 0; \
        for (; t + V <= n; t += V) { \
            const double at = from + rate * (double)(first + t); \
            const int64_t before = (int64_t)at; \
            if (before + 32 > length) break; \
            const uint32_t part = (uint32_t)((at - (double)before) * (1 << 28)); \
            const umask place = (umask)steps + part; \
            floats a, b; \
            neighbours(x + before, (mask)(place >> 28), &a, &b); \
            const floats share = __builtin_convertvector((mask)(place & 0x0fffffff), floats) * (1.0f / (1 << 28)); \
            store(y + t, (a + share * (b - a)) * scale); \
        } \
        for (; t < n; t++) { \
            const double at = from + rate * (double)(first + t); \
            const int64_t place = (int64_t)at, before = place < length - 2 ? place : length - 2; \
            const float a = x[before], b = x[before + 1]; \
            y[t] = (a + (float)(at - (double)before) * (b - a)) * scale; \
        } \
    }
AT_SPEED(pcm_at_speed, pcm_neighbours, int16_t, (1.0f / 32768))
AT_SPEED(floats_at_speed, float_neighbours, float, 1.0f)

/* y[t] = x[t] / 32768, exactly */
static void pcm_as_floats(const int16_t *x, int64_t n, float *y) {
    int64_t t = 0;
    for (; t + V <= n; t += V) {
        pcm near;
        memcpy(&near, x + t, sizeof near);
        store(y + t, __builtin_convertvector(near, floats) * (1.0f / 32768));
    }
    for (; t < n; t++) y[t] = x[t] * (1.0f / 32768);
}

/* samples first ... first + n of the clip at its new speed */
static void samples_of(const struct clip *clip, int64_t first, int64_t n, float *y) {
    if (clip->rate != 0 && clip->kept > 1) {
        if (clip->kind == INT16) pcm_at_speed(clip->samples, clip->length, clip->rate, clip->from, first, n, y);
        else floats_at_speed(clip->samples, clip->length, clip->rate, clip->from, first, n, y);
    } else if (clip->kind == INT16) {
        pcm_as_floats((const int16_t *)clip->samples + first, n, y);
    } else if (n) {
        memcpy(y, (const float *)clip->samples + first, n * sizeof(float));
    }
}

static double power_of(const float *x, int64_t n) {
    double power = 0;
    for (int64_t t = 0; t < n;) {
        const int64_t end = t + 512 < n ? t + 512 : n;
        floats a = {0}, b = {0};
        for (; t + 2 * V <= end; t += 2 * V) {
            const floats u = load(x + t), v = load(x + t + V);
            a += u * u, b += v * v;
        }
        for (; t < end; t++) power += (double)x[t] * x[t];
        a += b;
        for (int lane = 0; lane < V; lane++) power += a[lane];
    }
    return power;
}

/* y += g n with n looped from its start; g from both powers */
static void add_noise(const struct clip *clip, float *y) {
    const int64_t length = clip->noise_length;
    double power = 0;
    int64_t at = clip->noise_start % length;
    for (int64_t t = 0, some; t < clip->kept; t += some, at = 0) {
        some = length - at < clip->kept - t ? length - at : clip->kept - t;
        power += power_of(clip->noise + at, some);
    }
    if (!(power > 0)) return;
    const float gain = (float)(clip->gain * sqrt(power_of(y, clip->kept) / power));
    at = clip->noise_start % length;
    for (int64_t t = 0, some; t < clip->kept; t += some, at = 0) {
        some = length - at < clip->kept - t ? length - at : clip->kept - t;
        const float *noise = clip->noise + at;
        int64_t k = 0;
        for (; k + V <= some; k += V) store(y + t + k, load(y + t + k) + gain * load(noise + k));
        for (; k < some; k++) y[t + k] += gain * noise[k];
    }
}

/* The clip, changed, zeros up to `padded` samples. */
static void changed(const struct clip *clip, float *y, int64_t padded) {
    const int64_t away = clip->move < 0 ? -clip->move : clip->move;
    const int64_t n = away < clip->kept ? clip->kept - away : 0;
    const int64_t to = clip->move > 0 ? away : 0, first = clip->move < 0 ? away : 0;
    const int64_t start = to < clip->kept ? to : clip->kept;
    memset(y, 0, start * sizeof(float));
    samples_of(clip, first, n, y + start);
    memset(y + start + n, 0, (padded - start - n) * sizeof(float));
    if (clip->noise != NULL) add_noise(clip, y);
}

/* y[t] = x[t] - a x[t - 1], the first as it is; rounded once */
static void emphasise(float *y, int64_t n, real a) {
    for (int64_t t = n - 1; t > 0; t--) y[t] = (float)(y[t] - a * y[t - 1]);
}
