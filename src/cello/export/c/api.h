#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

//MACROS

/* The decision layer; define another value to replace one, the same wherever this file is included. */
//DECISION
//AHEAD

//REAL
/* A stream of sound. Its fields are the model's own; it needs no other memory and holds nothing to give back. */
typedef void (*model_listener)(void *context, int64_t step, const float *scores);
typedef struct {
    model_listener listener;
    void *context;
    int64_t steps, end;
//FIELDS
} model_stream;

/* The labels, in the order of the scores. */
extern const char *const model_labels[MODEL_CLASSES];

/* Begin a stream, or begin it anew. */
void model_start(model_stream *stream);

/* Call `listener` with the scores of every new step, in order, from inside push and finish; NULL calls nothing. Where
   no more than MODEL_HOP samples are pushed at a time, model_scores after each push misses only steps that become known
   together: the first MODEL_DELAY_FRAMES and the last. */
void model_listen(model_stream *stream, model_listener listener, void *context);

/* Take n more samples at MODEL_RATE_HZ, any n: how many steps have got their scores. However sound is cut, the results
   are the same bits. A float sample that is not within -1e6 to 1e6, NaN included, counts as 0. */
int model_push(model_stream *stream, const float *samples, int n);       /* from -1 to 1 */
int model_push_int16(model_stream *stream, const int16_t *samples, int n);

/* End a stream, whose last MODEL_DELAY_FRAMES frames get their scores: of how many steps. It takes no samples then. */
int model_finish(model_stream *stream);

/* The newest step's MODEL_CLASSES scores, before any softmax; NULL if there has been no step. */
const float *model_scores(const model_stream *stream);

/* Of how many samples the newest step has seen the last, from the beginning of the stream; 0 if there has been no step.
   Known in `listener` too. */
int64_t model_end(const model_stream *stream);

/* Decisions from scores: probabilities are averaged over the last MODEL_SMOOTHED_STEPS steps; the highest average is a
   decision if it is at least MODEL_THRESHOLD, its label is no background, and the step ends at least
   MODEL_REFRACTORY_SAMPLES samples after that of the last decision. */
typedef struct {
    double time_s;    /* the end of the step's last window */
    int label;
    float score;
} model_decision;
typedef struct {
    int64_t last;
    int kept, slot;
    float probabilities[MODEL_SMOOTHED_STEPS][MODEL_CLASSES];
} model_decider;
void model_decider_start(model_decider *decider);
/* Take the scores of the next step, and where it ends: 1 and the decision, if there is one, otherwise 0. Every step
   counts, so call it from `listener`: model_decide(decider, scores, model_end(stream), &decision). */
int model_decide(model_decider *decider, const float *scores, int64_t end, model_decision *decision);

#ifdef __cplusplus
}
#endif

#endif
