/* From a stream of samples to the scores of every step. */

#if MEAN
/* The mean of the last outputs. */
static const NUMBER *pooled(model_stream *s, const NUMBER *output) {
    NUMBER *const mean = s->scratch.layer, *const share = mean + P;
    memcpy(s->outputs + s->slot * P, output, P * sizeof(NUMBER));
    s->slot = (s->slot + 1) % MODEL_POOLED_STEPS;
    s->kept += s->kept < MODEL_POOLED_STEPS;
    for (int t = 0; t < s->kept; t++) share[t] = ONE / (NUMBER)s->kept;
    memset(mean, 0, P * sizeof(NUMBER));
    ADD_OUTPUTS(P / ROWS, s->kept, s->outputs, ROWS, P, share, mean);
    return mean;
}
#endif
#if ATTENTION
/* The last outputs, weighed by the softmax of their scores of attention. */
static const NUMBER *pooled(model_stream *s, const NUMBER *output) {
    NUMBER *const sum = s->scratch.layer, *const share = sum + P;
    NUMBER score = attention_bias, highest = 0.0f, total = 0.0f;
    for (int k = 0; k < H; k++) score += attention[k] * output[k];
    memcpy(s->outputs + s->slot * P, output, P * sizeof(NUMBER));
    s->attention[s->slot] = score;
    s->slot = (s->slot + 1) % MODEL_POOLED_STEPS;
    s->kept += s->kept < MODEL_POOLED_STEPS;
    for (int t = 0; t < s->kept; t++) highest = t == 0 || s->attention[t] > highest ? s->attention[t] : highest;
    for (int t = 0; t < s->kept; t += LANES) store(share + t, exponential(load(s->attention + t) - highest));
    for (int t = 0; t < s->kept; t++) total += share[t];
    for (int t = 0; t < s->kept; t++) share[t] /= total;
    memset(sum, 0, P * sizeof(NUMBER));
    ADD_OUTPUTS(P / ROWS, s->kept, s->outputs, ROWS, P, share, sum);
    return sum;
}
#endif

/* The steps whose frames wait in s->input, each of so many frames: layer by layer, then the scores step by step. */
static void do_steps(model_stream *s, int frames) {
    const int count = s->waiting;
    if (count == 0) return;
//LAYERS
    for (int k = 0; k < count; k++) {
        const NUMBER *output = outputs + k * P;
        s->end = (s->steps * MODEL_STACKED_FRAMES + frames - 1) * MODEL_HOP + MODEL_WINDOW;
#if POOLED
        output = pooled(s, output);
#endif
#if FLOATS
        memcpy(s->scores, head_bias, sizeof s->scores);
#else
        for (int label = 0; label < CLASSES; label++) s->sums[label] = head_bias[label];
#endif
//HEAD
#if DOUBLES
        for (int label = 0; label < MODEL_CLASSES; label++) s->scores[label] = (float)s->sums[label];
#endif
        if (s->listener) s->listener(s->context, s->steps, s->scores);
        s->steps++;
    }
    memmove(s->input, s->input + count * INPUTS, (size_t)s->stacked * MODEL_FEATURES * sizeof(NUMBER));
    s->waiting = 0;
}

/* Take a frame, and do steps once AHEAD of them wait: how many steps it completes. */
static int add_frame(model_stream *s, const model_real *features, const float *deltas) {
    NUMBER *const input = s->input + s->waiting * INPUTS + s->stacked * MODEL_FEATURES;
    for (int k = 0; k < STATIC_FEATURES; k++) input[k] = (float)features[k];
#if DELTAS
#if FLOATS
    memcpy(input + STATIC_FEATURES, deltas, DELTAS * STATIC_FEATURES * sizeof(float));
#else
    for (int k = 0; k < DELTAS * STATIC_FEATURES; k++) input[STATIC_FEATURES + k] = deltas[k];
#endif
#else
    (void)deltas;
#endif
#if STANDARDISED
    for (int k = 0; k < MODEL_FEATURES; k++) input[k] = (input[k] - feature_mean[k]) / feature_deviation[k];
#endif
    if (++s->stacked < MODEL_STACKED_FRAMES) return 0;
    s->stacked = 0;
    if (++s->waiting == AHEAD) do_steps(s, MODEL_STACKED_FRAMES);
    return 1;
}
#if DELTAS

/* The features of frame k of the last s->frames ones. */
static const model_real *frame(const model_stream *s, int k) {
    return s->features + (s->frames < DELTA_FRAMES ? k : (s->next + k) % DELTA_FRAMES) * STATIC_FEATURES;
}

/* The deltas of the polynomials fitted to `width` of the last frames. */
static void fit(model_stream *s, int first, int width, const model_real *weights) {
    for (int order = 0; order < DELTAS; order++) {
        model_real sums[STATIC_FEATURES] = {0};
        for (int tap = 0; tap < width; tap++) {
            const model_real weight = weights[order * DELTA_FRAMES + tap], *const from = frame(s, first + tap);
            for (int k = 0; k < STATIC_FEATURES; k++) sums[k] += weight * from[k];
        }
        for (int k = 0; k < STATIC_FEATURES; k++) s->deltas[order * STATIC_FEATURES + k] = (float)sums[k];
    }
}

/* The weights of a narrower window: t / sum t^2, and 2 (t^2 - m) / sum (t^2 - m)^2 with m the mean of t^2. */
static void narrower(int width, model_real *weights) {
    model_real squares = 0, sum = 0;
    for (int tap = 0, t = -(width / 2); tap < width; tap++, t++) squares += (model_real)(t * t);
    for (int tap = 0, t = -(width / 2); tap < width; tap++, t++) {
        const model_real bent = (model_real)(t * t) - squares / (model_real)width;
        weights[tap] = (model_real)t / squares;
        weights[(DELTAS - 1) * DELTA_FRAMES + tap] = DELTAS == 2 ? 2 * bent : weights[tap];
        sum += bent * bent;
    }
    for (int tap = 0; DELTAS == 2 && tap < width; tap++) weights[DELTA_FRAMES + tap] /= sum;
}
#endif

/* The window is full: analyse it, and take the frames that are complete now. A frame's deltas are known once the
   DELTA_FRAMES around it are there; the first frames have those of the first whole window. */
static int add_window(model_stream *s) {
#if DELTAS
    int steps = 0;
    const int whole = s->frames == DELTA_FRAMES;
    analyse(s->samples, s->scratch.analysis, s->analysed);
    memcpy(s->features + s->next * STATIC_FEATURES, s->analysed, STATIC_FEATURES * sizeof(model_real));
    s->next = (s->next + 1) % DELTA_FRAMES;
    s->frames += !whole;
    if (s->frames < DELTA_FRAMES) return 0;
    fit(s, 0, DELTA_FRAMES, delta_weights);
    for (int k = whole ? MODEL_DELAY_FRAMES : 0; k <= MODEL_DELAY_FRAMES; k++)
        steps += add_frame(s, frame(s, k), s->deltas);
    return steps;
#else
    analyse(s->samples, s->scratch.analysis, s->analysed);
    return add_frame(s, s->analysed, NULL);
#endif
}

/* A sample as it counts. */
LOCAL float sample(float v) { return v >= -1e6f && v <= 1e6f ? v : 0.0f; }

void model_start(model_stream *stream) {
    memset(stream, 0, sizeof *stream);
    stream->listener = NULL;
    stream->context = NULL;
#if FIRST
//FIRST
#endif
}

void model_listen(model_stream *stream, model_listener listener, void *context) {
    stream->listener = listener;
    stream->context = context;
}

/* Take samples: how many steps they complete, of which the last ones may wait. */
static int take(model_stream *stream, const float *samples, int n) {
    int steps = 0;
    while (n > 0 && !stream->ended) {
        if (stream->skipped > 0) {    /* the hop is longer than the window */
            const int some = stream->skipped < n ? stream->skipped : n;
#if EMPHASIS
            stream->previous = sample(samples[some - 1]);
#endif
            stream->skipped -= some, samples += some, n -= some;
            continue;
        }
        const int space = MODEL_WINDOW - stream->held, some = space < n ? space : n;
        float *const to = stream->samples + stream->held;
        for (int k = 0; k < some; k++) {
            const float value = sample(samples[k]);
#if EMPHASIS
            to[k] = (float)(value - EMPHASIS * stream->previous);
            stream->previous = value;
#else
            to[k] = value;
#endif
        }
        stream->held += some, samples += some, n -= some;
        if (stream->held < MODEL_WINDOW) break;
        steps += add_window(stream);
#if OVERLAP
        stream->held = MODEL_WINDOW - MODEL_HOP;
        memmove(stream->samples, stream->samples + MODEL_HOP, (MODEL_WINDOW - MODEL_HOP) * sizeof(float));
#else
        stream->held = 0;
        stream->skipped = MODEL_HOP - MODEL_WINDOW;
#endif
    }
    return steps;
}

int model_push(model_stream *stream, const float *samples, int n) {
    const int steps = take(stream, samples, n);
    do_steps(stream, MODEL_STACKED_FRAMES);
    return steps;
}

int model_push_int16(model_stream *stream, const int16_t *samples, int n) {
    int steps = 0;
    float block[64];
    for (int from = 0; from < n; from += 64) {
        const int some = n - from < 64 ? n - from : 64;
        for (int k = 0; k < some; k++) block[k] = (float)samples[from + k] * (1.0f / 32768);
        steps += take(stream, block, some);
    }
    do_steps(stream, MODEL_STACKED_FRAMES);
    return steps;
}

int model_finish(model_stream *stream) {
    int steps = 0;
    if (stream->ended) return 0;
#if DELTAS
    const int count = stream->frames;
    if (count == DELTA_FRAMES) {
        for (int k = MODEL_DELAY_FRAMES + 1; k < count; k++) steps += add_frame(stream, frame(stream, k), stream->deltas);
    } else if (count > 0) {    /* never a whole window: the widest that fits */
        model_real weights[DELTAS * DELTA_FRAMES];
        const int width = count < 3 ? 0 : (count - 1) / 2 * 2 + 1, half = width / 2;
        if (width) narrower(width, weights);
        for (int k = 0; k < count; k++) {
            const int first = k < half ? 0 : k - half > count - width ? count - width : k - half;
            fit(stream, first, width, weights);
            steps += add_frame(stream, frame(stream, k), stream->deltas);
        }
    }
#endif
    do_steps(stream, MODEL_STACKED_FRAMES);
    if (stream->stacked) {
        const int last = stream->stacked, empty = MODEL_STACKED_FRAMES - last;
        memset(stream->input + last * MODEL_FEATURES, 0, (size_t)empty * MODEL_FEATURES * sizeof(NUMBER));
        stream->stacked = 0, stream->waiting = 1;
        do_steps(stream, last);
        steps++;
    }
    stream->ended = 1;
    return steps;
}

const float *model_scores(const model_stream *stream) {
    return stream->steps ? stream->scores : NULL;
}

int64_t model_end(const model_stream *stream) {
    return stream->end;
}

void model_decider_start(model_decider *decider) {
    memset(decider, 0, sizeof *decider);
    decider->last = -1;
}

/* Whether a probability reaches MODEL_THRESHOLD, given the sum of the others: near 1 a float has no digits left, and
   the others have all of theirs. A double, as elsewhere, is 1 where half of its last digit is missing. */
static int reached(float others) {
    return others <= (float)(1.0 - (double)MODEL_THRESHOLD + 1.1e-16);
}

int model_decide(model_decider *decider, const float *scores, int64_t end, model_decision *decision) {
    float *const now = decider->probabilities[decider->slot];
    float means[MODEL_CLASSES], highest = scores[0], total = 0.0f, best = -1.0f, others = 0.0f;
    int label = 0;
    for (int k = 1; k < MODEL_CLASSES; k++) highest = scores[k] > highest ? scores[k] : highest;
    for (int k = 0; k < MODEL_CLASSES; k++) {
        NUMBER lanes[LANES];
        store(lanes, exponential(broadcast(scores[k] - highest)));
#if FLOATS
        total += now[k] = lanes[0];
#else
        total += now[k] = (float)lanes[0];
#endif
    }
    for (int k = 0; k < MODEL_CLASSES; k++) now[k] /= total;
    decider->slot = (decider->slot + 1) % MODEL_SMOOTHED_STEPS;
    decider->kept += decider->kept < MODEL_SMOOTHED_STEPS;
    for (int k = 0; k < MODEL_CLASSES; k++) {
        float sum = 0.0f;
        for (int t = 0; t < decider->kept; t++) sum += decider->probabilities[t][k];
        means[k] = sum / (float)decider->kept;
        if (means[k] > best) best = means[k], label = k;
    }
    for (int k = 0; k < MODEL_CLASSES; k++) others += k == label ? 0.0f : means[k];
    if (!(best >= 0.0f) || !reached(others) || background[label]) return 0;
    if (decider->last >= 0 && end - decider->last < MODEL_REFRACTORY_SAMPLES) return 0;
    decider->last = end;
    decision->time_s = (double)end / MODEL_RATE_HZ;
    decision->label = label;
    decision->score = best;
    return 1;
}
