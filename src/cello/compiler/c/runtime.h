/* What every generated kernel stands on: vectors of `real` numbers, the functions of the cell language, tiles, threads.

   A vec holds V elements. A tile holds some rows of a batch, blocked: all rows' first V elements, then their next V,
   and so on; a row's element k stands at (k / V) * rows * V + row * V + k % V, where rows is the tile's number of rows.
   Rows of H units are padded to P elements, whole vecs; what lies beyond H is never mixed with what lies before it. */

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
enum { BYTES = 64, WIDE = 2, MOST_ROWS = 8 };    /* 32 registers: 16 hold sums */
#elif defined(__AVX__)
enum { BYTES = 32, WIDE = 2, MOST_ROWS = 4 };    /* 16 registers: 8 hold sums */
#else
enum { BYTES = 16, WIDE = 4, MOST_ROWS = 4 };    /* NEON, 32 registers: 16 hold sums */
#endif
enum { V = BYTES / sizeof(real), ROWS = MOST_ROWS < V ? MOST_ROWS : V, PANEL = V * WIDE };
enum { TILE = 32, MOST_CHUNK = 256, GROUPS = 8 };

typedef real vec __attribute__((vector_size(BYTES)));
typedef integer mask __attribute__((vector_size(BYTES)));
typedef real anywhere __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

/* Some instructions are written as such: <immintrin.h> would take the compiler a fifth of the time of most cells. */

/* Not copied to where they are called: a step calls them often, and each copy takes the compiler its time. */
#define CALLED static __attribute__((noinline))

static inline vec load(const real *p) { return *(const anywhere *)p; }
static inline void store(real *p, vec v) { *(anywhere *)p = v; }
static inline void accumulate(real *p, vec v) { store(p, load(p) + v); }
static inline vec broadcast(real v) { return v - (vec){0}; }

/* The first n < V elements of a vec, zeros after them. */
static inline vec load_some(const real *p, long n) {
#if defined(__AVX512F__) && !DOUBLE
    vec v;
    __asm__("vmovups %1, %0%{%2%}%{z%}" : "=v"(v) : "m"(*(const anywhere *)p), "Yk"((unsigned short)((1 << n) - 1)));
    return v;
#else
    vec v = {0};
    for (long k = 0; k < n; k++) v[k] = p[k];
    return v;
#endif
}
static inline void store_some(real *p, vec v, long n) {
#if defined(__AVX512F__) && !DOUBLE
    __asm__("vmovups %1, %0%{%2%}" : "+m"(*(anywhere *)p) : "v"(v), "Yk"((unsigned short)((1 << n) - 1)));
#else
    for (long k = 0; k < n; k++) p[k] = v[k];
#endif
}

/* then where the condition holds, otherwise elsewhere */
static inline vec select_vec(mask condition, vec then, vec otherwise) {
    return (vec)((condition & (mask)then) | (~condition & (mask)otherwise));
}
static inline vec where(vec a, vec b, vec u, vec v) { return select_vec(a > b, u, v); }
static inline vec maximum(vec a, vec b) { return select_vec(a > b, a, select_vec(b >= a, b, a + b)); }
static inline vec minimum(vec a, vec b) { return select_vec(a < b, a, select_vec(b <= a, b, a + b)); }
static inline vec relu(vec v) { return select_vec(v < broadcast(0), broadcast(0), v); }
static inline vec absolute(vec v) { return (vec)((mask)v & ~(mask)broadcast((real)-0.0)); }    /* clears the sign bit */

#define LANE_BY_LANE(name, function) \
    static inline vec name(vec v) { for (int k = 0; k < V; k++) v[k] = function(v[k]); return v; }

#if DOUBLE
LANE_BY_LANE(exponential, exp)
LANE_BY_LANE(hyperbolic, tanh)
LANE_BY_LANE(logarithm, log)
LANE_BY_LANE(logarithm_of_1_plus, log1p)
LANE_BY_LANE(root, sqrt)

static inline vec sigmoid(vec v) { return 1 / (1 + exponential(-v)); }
#else
LANE_BY_LANE(logarithm, logf)
LANE_BY_LANE(logarithm_of_1_plus, log1pf)
LANE_BY_LANE(root, sqrtf)

static inline vec clamped(vec v, real low, real high) {    /* NaN stays NaN */
#if defined(__AVX512F__)
    __asm__("vmaxps %0, %1, %0" : "+v"(v) : "v"(broadcast(low)));
    __asm__("vminps %0, %1, %0" : "+v"(v) : "v"(broadcast(high)));
    return v;
#else
    return select_vec(v < broadcast(low), broadcast(low), select_vec(v > broadcast(high), broadcast(high), v));
#endif
}

static const real SHIFT = 12582912.0f;    /* 1.5 * 2^23: adding it rounds to a whole number in the lowest bits */

/* v = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1, by Taylor's series to r^7 (error 5e-9), and SHIFT + n. */
static inline vec reduced(vec v, vec *n) {
    const vec rounded = v * 1.44269504f + SHIFT;
    const vec whole = rounded - SHIFT;
    *n = rounded;
    const vec r = v - whole * 0.693359375f + whole * 2.12194440e-4f, square = r * r;
    const vec high = (r * (1.0f / 5040) + 1.0f / 720) * square + (r * (1.0f / 120) + 1.0f / 24);
    return (high * square + (r * (1.0f / 6) + 0.5f)) * square + r;
}
/* 2^n for -126 <= n <= 127 from SHIFT + n; the shift drops what stands above the lowest bits */
static inline vec power_of_2(mask n) { return (vec)((n << 23) + (127 << 23)); }
/* v * 2^n from SHIFT + n: infinite where it is too large, and rounded once, to a subnormal number or 0, where too small */
static inline vec scaled(vec v, vec n) {
#if defined(__AVX512F__)
    __asm__("vscalefps %1, %0, %0" : "+v"(v) : "v"(n - SHIFT));
    return v;
#else
    const mask whole = (mask)n - (mask)broadcast(SHIFT), half = whole >> 1;
    return v * power_of_2(half) * power_of_2(whole - half);
#endif
}

/* exp(-104) is less than half of the smallest number */
static inline vec exponential(vec v) {
    vec n;
    const vec e = reduced(clamped(v, -104.0f, 100.0f), &n) + 1.0f;
    return scaled(e, n);
}

/* tanh v = m / (m + 2) with m = exp(2 v) - 1, which keeps its digits around 0 */
static inline vec hyperbolic(vec v) {
    vec n;
    const vec e = reduced(clamped(v, -10.0f, 10.0f) * 2.0f, &n);
    const vec scale = power_of_2((mask)n);
    const vec m = e * scale + (scale - 1.0f);
    return m / (m + 2.0f);
}

/* exp(-v) is infinite only where it is too large: a closed gate is 0, as torch's is. Below exp(-86) it adds nothing to
   1, so that 2^(n - 1), doubled, does where there is no instruction to scale. */
static inline vec sigmoid(vec v) {
    vec n;
    const vec e = reduced(clamped(-v, -86.0f, 89.0f), &n) + 1.0f;
#if defined(__AVX512F__)
    return 1.0f / (1.0f + scaled(e, n));
#else
    return 1.0f / (1.0f + 2.0f * (e * power_of_2((mask)n - 1)));
#endif
}
#endif

static inline vec softplus(vec v) { return relu(v) + logarithm_of_1_plus(exponential(-absolute(v))); }

long vec_length(void) { return V; }
static long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static long larger(long m, long n) { return m > n ? m : n; }
static long at_least_1(long n) { return larger(n, 1); }
/* Rows of a tensor: with the strides from clip to clip and from frame to frame. */
struct view { real *data; long clip_stride, frame_stride; };

/* Some clips of the batch, longest first: where they stand in it, how many frames they have; whether their steps run
   from the last frame to the first; whether the steps are taken backward. */
struct clips { const long *place, *length; long count, rows, steps, reverse, backward; };

static struct clips tile_of(const long *place, const long *length, long count, long reverse, long backward) {
    const struct clips tile = {place, length, count, count, length[0], reverse, backward};
    return tile;
}
/* How many of them run at step t, of at most n. */
static long running(const struct clips *c, long t, long n) {
    while (n > 0 && c->length[n - 1] <= t) n--;
    return n;
}
static real *row_of(const struct clips *c, const struct view *tensor, long r, long t) {
    const long frame = c->reverse ? c->length[r] - 1 - t : t;
    return tensor->data + c->place[r] * tensor->clip_stride + frame * tensor->frame_stride;
}
/* The same row of a step that comes soon is asked for, as rows lie far apart and no processor foresees them. */
#define PREFETCH(row, stride, N, writing) \
    for (long at = 0; at < (N); at += 64 / (long)sizeof(real)) __builtin_prefetch((row) + (stride) + at, writing)
/* Rows begin ... end of step t, N elements each, into a tile; what fills up the last vec is 0, and so is all if there
   is no tensor. */
CALLED void load_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, real *tile) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = begin; r < end; r++) {
        real *to = tile + r * V;
        long j = 0;
        if (!tensor.data) {
            for (; j < N; j += V, to += c->rows * V) store(to, broadcast(0));
            continue;
        }
        const real *from = row_of(c, &tensor, r, t);
        if (soon) PREFETCH(from, soon, N, 0);
        for (; j + V <= N; j += V, to += c->rows * V) store(to, load(from + j));
        if (j < N) store(to, load_some(from + j, N - j));
    }
}
/* And back. */
CALLED void store_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N,
                       const real *tile) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        const real *from = tile + r * V;
        if (soon) PREFETCH(to, soon, N, 1);
        long j = 0;
        for (; j + V <= N; j += V, from += c->rows * V) store(to + j, load(from));
        if (j < N) store_some(to + j, load(from), N - j);
    }
}
/* A part of each row, from element `begin` on. */
static struct view part_of(struct view tensor, long begin) {
    const struct view part = {tensor.data ? tensor.data + begin : NULL, tensor.clip_stride, tensor.frame_stride};
    return part;
}
/* Rows of N elements: zeros, or a tile added to them. */
static void zero_rows(const struct clips *c, struct view tensor, long t, long n, long N) {
    for (long r = 0; r < n; r++) memset(row_of(c, &tensor, r, t), 0, N * sizeof(real));
}
static void add_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long j = 0; j < N; j++) to[j] += tile[j / V * V * c->rows + r * V + j % V];
    }
}
/* A vec of a row of N elements, which may end within it. */
static inline void store_part(real *row, long j, long N, vec v) {
    if (j + V <= N) store(row + j, v);
    else store_some(row + j, v, N - j);
}
/* A tensor (B, H) of one row a clip, which is the same at every step. */
static struct view per_clip(real *data, long H) {
    const struct view found = {data, H, 0};
    return found;
}
/* Of few clips, how many steps the products of the frame are taken ahead: their matrices are then read once for all of
   these steps, as they are for the rows of a larger tile; 0 where that gains nothing. */
static long steps_ahead(const struct clips *c) {
    const long most = TILE / c->rows;
    return c->rows > TILE / 8 || c->steps < 2 ? 0 : c->steps < most ? c->steps : most;
}
/* The rows of `ahead` steps from step t, as one tile: those of each step after those of the step before. */
static void load_ahead(const struct clips *c, struct view tensor, long t, long ahead, long n, long N, real *tile) {
    struct clips all = *c;
    all.rows = ahead * c->rows;
    for (long s = 0; s < ahead && t + s < c->steps; s++, tile += c->rows * V) {
        n = running(c, t + s, n);
        load_tile(&all, tensor, t + s, 0, n, N, tile);
    }
}
/* The steps after which the derivatives of matrices are accumulated: those of 128 rows, which stay in the first cache;
   of more, where the matrices lie so far away that they are to be read and written less often. */
static long chunk_of(const struct clips *c, long H) {
    const long steps = (H < 512 ? MOST_CHUNK / 2 : MOST_CHUNK) / c->rows;
    return c->steps < steps ? c->steps : steps;
}
/* Zeros for the frames that no step reaches. */
static void zero_padding(const struct clips *c, struct view tensor, long T, long N) {
    for (long r = 0; r < c->count; r++)
        for (long t = c->length[r]; t < T; t++)
            memset(tensor.data + c->place[r] * tensor.clip_stride + t * tensor.frame_stride, 0, N * sizeof(real));
}

/* A row of N elements, filled up with zeros to whole vecs. */
CALLED void fill(real *row, const real *from, long N) {
    for (long j = 0; j < round_up(N, V); j++) row[j] = j < N ? from[j] : 0;
}

static real *alloc_workspace(long elements) {
    void *workspace = NULL;
    return posix_memalign(&workspace, 64, (elements > 0 ? elements : 1) * sizeof(real)) ? NULL : workspace;
}

/* Threads that work on the groups of a batch; 1 if there is no memory. A group's tiles are worked on in order and by one
   thread, and what groups add to is added to in their order, so that the number of threads changes no bit. */
struct team {
    int (*one)(const void *arguments, long group, long member, struct team *team);
    const void *arguments;
    long groups, begun, added;
    int failed;
    pthread_mutex_t lock;
    pthread_cond_t turn;
};
struct member { struct team *team; long number; };

static void *work_on(void *given) {
    const struct member *member = given;
    struct team *team = member->team;
    for (long group; (group = __atomic_fetch_add(&team->begun, 1, __ATOMIC_RELAXED)) < team->groups;)
        if (team->one(team->arguments, group, member->number, team))
            __atomic_store_n(&team->failed, 1, __ATOMIC_RELAXED);
    return NULL;
}
/* total = part for the first group, total += part for the others, when all groups before have been added. */
static void add_in_turn(struct team *team, long group, real *total, const real *part, long N) {
    pthread_mutex_lock(&team->lock);
    while (team->added != group) pthread_cond_wait(&team->turn, &team->lock);
    pthread_mutex_unlock(&team->lock);
    for (long j = 0; j < N; j += V) store(total + j, group ? load(total + j) + load(part + j) : load(part + j));
    pthread_mutex_lock(&team->lock);
    team->added++;
    pthread_cond_broadcast(&team->turn);
    pthread_mutex_unlock(&team->lock);
}
static int run_in_threads(int (*one)(const void *, long, long, struct team *), const void *arguments, long groups,
                          long threads) {
    struct team team = {one, arguments, groups, 0, 0, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
    pthread_t running[GROUPS];
    struct member members[GROUPS];
    int started[GROUPS] = {0};
    if (threads > groups) threads = groups;
    for (long k = 0; k < threads; k++) {
        const struct member member = {&team, k};
        members[k] = member;
        started[k] = k > 0 && pthread_create(&running[k], NULL, work_on, &members[k]) == 0;
    }
    work_on(&members[0]);    /* all that no thread could be had for, too */
    for (long k = 0; k < threads; k++)
        if (started[k]) pthread_join(running[k], NULL);
    return team.failed;
}
