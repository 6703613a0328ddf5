/* Vectors of LANES doubles and the functions of the cell language on them: those of the C library, so link with -lm. */
#if LANES > 1
typedef double vec __attribute__((vector_size(8 * LANES)));
typedef uint64_t bits __attribute__((vector_size(8 * LANES)));
typedef double anywhere __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

LOCAL vec load(const double *p) { return *(const anywhere *)p; }
LOCAL void store(double *p, vec v) { *(anywhere *)p = v; }
LOCAL vec broadcast(double v) { return v - (vec){0}; }
#define CHOOSE(condition, then, otherwise) \
    ((vec)(((bits)(condition) & (bits)(then)) | (~(bits)(condition) & (bits)(otherwise))))
#define LANE_BY_LANE(name, function) \
    LOCAL vec name(vec v) { \
        UNROLLED for (int k = 0; k < LANES; k++) v[k] = function(v[k]); \
        return v; \
    }
/* Weights are floats. */
LOCAL vec widened(const float *p) {
    vec v = {0};
    UNROLLED for (int k = 0; k < LANES; k++) v[k] = p[k];
    return v;
}
#else
typedef double vec;

LOCAL vec load(const double *p) { return *p; }
LOCAL void store(double *p, vec v) { *p = v; }
LOCAL vec broadcast(double v) { return v; }
#define CHOOSE(condition, then, otherwise) ((condition) ? (then) : (otherwise))
#define LANE_BY_LANE(name, function) LOCAL vec name(vec v) { return function(v); }
/* Weights are floats. */
LOCAL vec widened(const float *p) { return *p; }
#endif

/* NaN where an argument is, as in the training of the model */
LOCAL vec where(vec a, vec b, vec u, vec v) { return CHOOSE(a > b, u, v); }
LOCAL vec maximum(vec a, vec b) { return CHOOSE(a > b, a, CHOOSE(b >= a, b, a + b)); }
LOCAL vec minimum(vec a, vec b) { return CHOOSE(a < b, a, CHOOSE(b <= a, b, a + b)); }
LOCAL vec relu(vec v) { return CHOOSE(v < broadcast(0), broadcast(0), v); }
LANE_BY_LANE(absolute, fabs)
LANE_BY_LANE(exponential, exp)
LANE_BY_LANE(hyperbolic, tanh)
LANE_BY_LANE(logarithm, log)
LANE_BY_LANE(log_of_1_plus, log1p)
LANE_BY_LANE(root, sqrt)
LOCAL vec sigmoid(vec v) { return 1.0 / (1.0 + exponential(-v)); }
LOCAL vec softplus(vec v) { return relu(v) + log_of_1_plus(exponential(-absolute(v))); }
