/* The whole way of a clip, and of many in threads. */

/* The frames of a clip from their static parts `rows`, each (padded,) of W elements or a multiple, and after them the
   derivatives of each order. A window that does not fit whole uses the nearest one that does; a clip of few frames a
   narrower window. */
static void append_deltas(const struct plan *plan, const vec *rows, float *out, int64_t frames) {
    const int64_t size = plan->static_size, dimensions = size * (1 + plan->deltas);
    const int64_t vecs = (size + W - 1) / W, fits = (frames - 1) / 2 * 2 + 1;
    const int64_t width = fits < plan->delta_width ? fits : plan->delta_width, half = width / 2;
    for (int64_t t = 0; t < frames; t++)
        for (int64_t k = 0; k < size; k++) out[t * dimensions + k] = (float)((const real *)(rows + t * vecs))[k];
    if (frames < 3) {
        for (int64_t t = 0; t < frames; t++)
            memset(out + t * dimensions + size, 0, (dimensions - size) * sizeof(float));
        return;
    }
    for (int64_t order = 0; order < plan->deltas; order++) {
        const real *weights = plan->delta_weights + (order * (plan->delta_width / 2) + half - 1) * plan->delta_width;
        for (int64_t centre = half; centre < frames - half; centre++) {
            float *to = out + centre * dimensions + size * (1 + order);
            for (int64_t k = 0; k < vecs; k++) {
                vec sum = {0};
                for (int64_t tap = 0; tap < width; tap++) sum += rows[(centre - half + tap) * vecs + k] * weights[tap];
                const narrow_vec found = __builtin_convertvector(sum, narrow_vec);
                memcpy(to + k * W, &found, (k * W + W <= size ? W : size - k * W) * sizeof(float));
            }
        }
    }
    for (int64_t t = 0; t < half; t++) {
        memcpy(out + t * dimensions + size, out + half * dimensions + size, (dimensions - size) * sizeof(float));
        memcpy(out + (frames - 1 - t) * dimensions + size, out + (frames - 1 - half) * dimensions + size,
               (dimensions - size) * sizeof(float));
    }
}

/* Each coefficient to mean 0 and deviation 1 over the clip. */
static void standardise(const struct plan *plan, float *out, int64_t frames) {
    const int64_t dimensions = plan->static_size * (1 + plan->deltas);
    for (int64_t k = 0; k < dimensions; k++) {
        double sum = 0, squares = 0;
        for (int64_t t = 0; t < frames; t++) sum += out[t * dimensions + k];
        const double mean = sum / frames;
        for (int64_t t = 0; t < frames; t++) {
            const double away = out[t * dimensions + k] - mean;
            squares += away * away;
        }
        double deviation = sqrt(squares / frames);
        if (deviation < plan->smallest_deviation) deviation = plan->smallest_deviation;
        for (int64_t t = 0; t < frames; t++)
            out[t * dimensions + k] = (float)((out[t * dimensions + k] - mean) / deviation);
    }
}

/* The static part of the frames of `samples`, (frames, padded) in `rows`, zero after static_size elements. */
static void frames_of(const struct plan *plan, int64_t warp, const float *samples, int64_t frames, vec *work,
                      vec *rows) {
    vec *found = work + 4 * plan->window + plan->mels;
    const int64_t vecs = (plan->static_size + W - 1) / W;
    for (int64_t t = 0; t < frames; t += W) {
        const float *from[W];
        for (int64_t lane = 0; lane < W; lane++)
            from[lane] = samples + (t + lane < frames ? t + lane : frames - 1) * plan->hop;
        static_frames(plan, warp, from, work, found);
        for (int64_t k = plan->static_size; k < vecs * W; k++) found[k] = (vec){0};
        for (int64_t k = 0; k < vecs; k++) {
            transpose(found + k * W);
            for (int64_t lane = 0; lane < W && t + lane < frames; lane++)
                rows[(t + lane) * vecs + k] = found[k * W + lane];
        }
    }
}

struct work { const struct plan *plan; const struct clip *clips; int64_t count, first, threads, failed; };

static int64_t padded_samples(const struct plan *plan, const struct clip *clip) {
    const int64_t framed = (clip->frames - 1) * plan->hop + plan->window;
    return framed > clip->kept ? framed : clip->kept;
}

static void *work_on(void *given) {
    struct work *work = given;
    const struct plan *plan = work->plan;
    const int64_t dimensions = plan->static_size * (1 + plan->deltas);
    int64_t longest = 0, most = 0;
    for (int64_t k = work->first; k < work->count; k += work->threads) {
        const int64_t samples = padded_samples(plan, work->clips + k);
        if (samples > longest) longest = samples;
        if (work->clips[k].frames > most) most = work->clips[k].frames;
    }
    const int64_t each = (plan->static_size + W - 1) / W, vecs = 4 * plan->window + plan->mels + each * W;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (vecs + most * each) * sizeof(vec) + (longest + V) * sizeof(float))) {
        work->failed = 1;
        return NULL;
    }
    vec *rows = (vec *)memory + vecs;
    float *samples = (float *)(rows + most * each);
    for (int64_t k = work->first; k < work->count; k += work->threads) {
        const struct clip *clip = work->clips + k;
        changed(clip, samples, padded_samples(plan, clip));
        if (plan->emphasis != 0) emphasise(samples, padded_samples(plan, clip), (real)plan->emphasis);
        frames_of(plan, clip->warp, samples, clip->frames, memory, rows);
        append_deltas(plan, rows, clip->out, clip->frames);
        if (plan->standardise) standardise(plan, clip->out, clip->frames);
        memset(clip->out + clip->frames * dimensions, 0,
               (clip->out_frames - clip->frames) * dimensions * sizeof(float));
    }
    free(memory);
    return NULL;
}

/* All clips, some to each thread; 1 if there is no memory. A clip is one thread's, so the number of threads changes no
   bit. */
int64_t clips_to_frames(const struct plan *plan, const struct clip *clips, int64_t count, int64_t threads) {
    enum { MOST = 64 };
    pthread_t running[MOST];
    struct work works[MOST];
    int started[MOST];
    int64_t failed = 0;
    if (threads > count) threads = count;
    if (threads > MOST) threads = MOST;
    for (int64_t k = threads - 1; k >= 0; k--) {
        works[k] = (struct work){plan, clips, count, k, threads, 0};
        started[k] = k > 0 && pthread_create(&running[k], NULL, work_on, &works[k]) == 0;
        if (!started[k]) work_on(&works[k]);
    }
    for (int64_t k = 0; k < threads; k++) {
        if (started[k]) pthread_join(running[k], NULL);
        failed |= works[k].failed;
    }
    return failed;
}

int64_t plan_size(void) { return sizeof(struct plan); }
int64_t clip_size(void) { return sizeof(struct clip); }

/* A clip's samples before its frames are taken, for those who want to hear or compare them. */
void changed_clip(const struct clip *clip, float *y, int64_t padded) { changed(clip, y, padded); }
