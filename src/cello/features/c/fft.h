/* Fourier transforms of W signals at once, one to each lane of a vec: every operation is the same for all of them, so a
   signal's result does not depend on its lane, nor on its neighbours. With DOUBLE they are in double precision: bands may
   be 70 dB below the loudest, where a transform in floats leaves three digits. */

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
enum { V = BYTES / sizeof(float) };

typedef float floats __attribute__((vector_size(BYTES)));
typedef int32_t mask __attribute__((vector_size(BYTES)));
typedef uint32_t umask __attribute__((vector_size(BYTES)));
typedef float anywhere __attribute__((vector_size(BYTES), aligned(sizeof(float)), may_alias));
static inline floats load(const float *p) { return *(const anywhere *)p; }
static inline void store(float *p, floats v) { *(anywhere *)p = v; }

#if DOUBLE
typedef double real;
typedef int64_t integer;
typedef uint64_t bits;
#else
typedef float real;
typedef int32_t integer;
typedef uint32_t bits;
#endif
enum { W = BYTES / sizeof(real) };
typedef real vec __attribute__((vector_size(BYTES)));
typedef integer int_vec __attribute__((vector_size(BYTES)));
typedef bits vec_bits __attribute__((vector_size(BYTES)));
typedef float narrow_vec __attribute__((vector_size(W * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef struct { vec re, im; } pair;

static inline vec widened(const float *p) { return __builtin_convertvector(*(const narrow_vec *)p, vec); }
static inline vec broadcast(real v) { return v - (vec){0}; }
static inline pair add(pair a, pair b) { return (pair){a.re + b.re, a.im + b.im}; }
static inline pair subtract(pair a, pair b) { return (pair){a.re - b.re, a.im - b.im}; }
/* a turned by the angle whose cosine and sine are turn[0] and turn[1] */
static inline pair turned(pair a, const real *turn) {
    return (pair){a.re * turn[0] - a.im * turn[1], a.re * turn[1] + a.im * turn[0]};
}

/* n points, the product of the radices; turn[2 k], turn[2 k + 1] are the cosine and sine of -2 pi k / n */
struct transform {
    int64_t n, steps;
    const int64_t *radices;
    const real *turn;
};

/* One step of Stockham's transform: n = radix * m points left of each of s transforms. Point k * m + p of transform q
   stands at x[q + s * (k * m + p)]; output j, turned by p * j / n of a circle, goes to y[q + s * (radix * p + j)]. */
struct step { int64_t radix, m, s, jump; };
#define EACH_POINT \
    for (int64_t p = 0; p < step.m; p++) { \
        const real *turns[8]; \
        for (int64_t j = 1; j < step.radix && j < 8; j++) turns[j] = turn + 2 * p * j * step.jump; \
        for (int64_t q = 0; q < step.s; q++) { \
            const pair *in = x + q + step.s * p; \
            pair *out = y + q + step.s * step.radix * p;
#define IN(k) in[(k) * step.s * step.m]
#define OUT(j) out[(j) * step.s]
#define END_POINT }}

static void by_2(struct step step, const pair *x, pair *y, const real *turn) {
    EACH_POINT
    const pair a = IN(0), b = IN(1);
    OUT(0) = add(a, b);
    OUT(1) = turned(subtract(a, b), turns[1]);
    END_POINT
}

static void by_3(struct step step, const pair *x, pair *y, const real *turn) {
    const real sine = (real)0.866025403784438647;
    EACH_POINT
    const pair a = IN(0), b = IN(1), c = IN(2), sum = add(b, c), difference = subtract(b, c);
    const pair middle = {a.re - (real)0.5 * sum.re, a.im - (real)0.5 * sum.im};
    const pair side = {sine * difference.im, -sine * difference.re};    /* -i sin(pi / 3) (b - c) */
    OUT(0) = add(a, sum);
    OUT(1) = turned(add(middle, side), turns[1]);
    OUT(2) = turned(subtract(middle, side), turns[2]);
    END_POINT
}

static void by_4(struct step step, const pair *x, pair *y, const real *turn) {
    EACH_POINT
    const pair a = IN(0), b = IN(1), c = IN(2), d = IN(3);
    const pair even = add(a, c), odd = add(b, d), left = subtract(a, c), across = subtract(b, d);
    const pair right = {across.im, -across.re};    /* -i (b - d) */
    OUT(0) = add(even, odd);
    OUT(1) = turned(add(left, right), turns[1]);
    OUT(2) = turned(subtract(even, odd), turns[2]);
    OUT(3) = turned(subtract(left, right), turns[3]);
    END_POINT
}

static void by_5(struct step step, const pair *x, pair *y, const real *turn) {
    const real cos1 = (real)0.309016994374947424, cos2 = (real)-0.809016994374947424;
    const real sin1 = (real)0.951056516295153572, sin2 = (real)0.587785252292473129;
    EACH_POINT
    const pair a = IN(0), b = IN(1), c = IN(2), d = IN(3), e = IN(4);
    const pair be = add(b, e), cd = add(c, d), b_e = subtract(b, e), c_d = subtract(c, d);
    const pair one = {a.re + cos1 * be.re + cos2 * cd.re, a.im + cos1 * be.im + cos2 * cd.im};
    const pair two = {a.re + cos2 * be.re + cos1 * cd.re, a.im + cos2 * be.im + cos1 * cd.im};
    const pair first = {sin1 * b_e.im + sin2 * c_d.im, -(sin1 * b_e.re + sin2 * c_d.re)};
    const pair second = {sin2 * b_e.im - sin1 * c_d.im, -(sin2 * b_e.re - sin1 * c_d.re)};
    OUT(0) = add(a, add(be, cd));
    OUT(1) = turned(add(one, first), turns[1]);
    OUT(2) = turned(add(two, second), turns[2]);
    OUT(3) = turned(subtract(two, second), turns[3]);
    OUT(4) = turned(subtract(one, first), turns[4]);
    END_POINT
}

static void by_8(struct step step, const pair *x, pair *y, const real *turn) {
    const real half = (real)0.707106781186547524;
    EACH_POINT
    const pair a = add(IN(0), IN(4)), b = add(IN(1), IN(5)), c = add(IN(2), IN(6)), d = add(IN(3), IN(7));
    const pair e = subtract(IN(0), IN(4)), f = subtract(IN(1), IN(5)), g = subtract(IN(2), IN(6));
    const pair h = subtract(IN(3), IN(7));
    const pair ac = add(a, c), bd = add(b, d), a_c = subtract(a, c), b_d = subtract(b, d);
    const pair quarter = {b_d.im, -b_d.re};
    OUT(0) = add(ac, bd);
    OUT(4) = turned(subtract(ac, bd), turns[4]);
    OUT(2) = turned(add(a_c, quarter), turns[2]);
    OUT(6) = turned(subtract(a_c, quarter), turns[6]);
    const pair f1 = {half * (f.re + f.im), half * (f.im - f.re)};       /* f turned by an eighth, h by three */
    const pair h3 = {half * (h.im - h.re), -half * (h.re + h.im)};
    const pair g2 = {g.im, -g.re};
    const pair eg = add(e, g2), e_g = subtract(e, g2), fh = add(f1, h3), f_h = subtract(f1, h3);
    const pair back = {f_h.im, -f_h.re};
    OUT(1) = turned(add(eg, fh), turns[1]);
    OUT(5) = turned(subtract(eg, fh), turns[5]);
    OUT(3) = turned(add(e_g, back), turns[3]);
    OUT(7) = turned(subtract(e_g, back), turns[7]);
    END_POINT
}

/* Any other prime: the definition, the sums of point k and its mirror image taken first. */
enum { LARGEST_RADIX = 251 };
static void by_any(struct step step, const pair *x, pair *y, const real *turn, int64_t n) {
    const int64_t radix = step.radix, half = radix / 2, share = n / radix;
    pair sums[LARGEST_RADIX / 2 + 1], differences[LARGEST_RADIX / 2 + 1];
    for (int64_t p = 0; p < step.m; p++)
        for (int64_t q = 0; q < step.s; q++) {
            const pair *in = x + q + step.s * p;
            pair *out = y + q + step.s * radix * p, total = in[0];
            for (int64_t k = 1; k <= half; k++) {
                sums[k] = add(IN(k), IN(radix - k)), differences[k] = subtract(IN(k), IN(radix - k));
                total = add(total, sums[k]);
            }
            OUT(0) = total;
            for (int64_t j = 1; j <= half; j++) {
                pair even = in[0], odd = {{0}, {0}};
                for (int64_t k = 1, place = j; k <= half; k++, place = (place + j) % radix) {
                    const real *angle = turn + 2 * place * share;
                    even.re += sums[k].re * angle[0], even.im += sums[k].im * angle[0];
                    odd.re -= differences[k].im * angle[1], odd.im += differences[k].re * angle[1];
                }
                OUT(j) = turned(add(even, odd), turn + 2 * p * j * step.jump);
                OUT(radix - j) = turned(subtract(even, odd), turn + 2 * p * (radix - j) * step.jump);
            }
        }
}

/* The transform of x, which lies in x or in other afterwards: that one is returned. */
static pair *transformed(const struct transform *plan, pair *x, pair *other) {
    struct step step = {0, plan->n, 1, 1};
    for (int64_t k = 0; k < plan->steps; k++) {
        step.radix = plan->radices[k];
        step.m /= step.radix;
        switch (step.radix) {
            case 2: by_2(step, x, other, plan->turn); break;
            case 3: by_3(step, x, other, plan->turn); break;
            case 4: by_4(step, x, other, plan->turn); break;
            case 5: by_5(step, x, other, plan->turn); break;
            case 8: by_8(step, x, other, plan->turn); break;
            default: by_any(step, x, other, plan->turn, plan->n);
        }
        step.s *= step.radix;
        step.jump *= step.radix;
        pair *done = other;
        other = x;
        x = done;
    }
    return x;
}
