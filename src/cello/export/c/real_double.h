/* Frames and the model are computed with doubles; weights, samples and scores are floats. */
#define MODEL_DOUBLE 1
typedef double model_real;

