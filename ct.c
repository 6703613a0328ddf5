#include <stdint.h>
typedef double real;
typedef int64_t integer;
#define DOUBLE 1
#define BF16 0

/* What every generated kernel stands on: vectors of `real` numbers and the functions of the cell language.

   A vec holds V elements. A tile holds some rows of a batch, blocked: all rows' first V elements, then their next V,
   and so on; a row's element k stands at (k / V) * rows * V + row * V + k % V, where rows is the tile's number of rows.
   Rows of H units are padded to P elements, whole vecs; what lies beyond H is never mixed with what lies before it. */

#include <math.h>
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

/* Compiled once, for all kernels; a kernel's own text has but their first lines. */
#define SHARED __attribute__((visibility("hidden")))

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

#if defined(__AVX512F__)
/* Lanes of a, and from lane V on of b, that `from` names. */
static inline vec pick(vec a, mask from, vec b) {
#if DOUBLE
    __asm__("vpermt2pd %2, %1, %0" : "+v"(a) : "v"(from), "v"(b));
#else
    __asm__("vpermt2ps %2, %1, %0" : "+v"(a) : "v"(from), "v"(b));
#endif
    return a;
}
#endif

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
static inline vec softplus(vec v) { return relu(v) + logarithm_of_1_plus(exponential(-absolute(v))); }
#else
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

/* log(1 + f) = 2 (s + s^3/3 + s^5/5 + ...) of s = f / (f + 2), which is f - f^2/2 + s (f^2/2 + 2 (s^2/3 + s^4/5 + ...)):
   f keeps its digits around 0. Given is 2/3 + 2 s^2/5 + ..., what follows the first power. */
static inline vec near_1(vec f, vec s, vec high) {
    const vec half = f * f * 0.5f;
    return s * (half + high * (s * s)) - half;    /* log(1 + f) - f */
}
/* v = 2^n (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), the series to s^9 (error 1e-8 f). Subnormal numbers are scaled
   first. */
static inline vec logarithm(vec v) {
    const mask small = v < broadcast(1.17549435e-38f);
    const mask bits = (mask)select_vec(small, v * 8388608.0f, v);
    const mask n = (bits - 0x3f3504f3) >> 23;
    const vec whole = (vec)(n + (mask)broadcast(SHIFT)) - SHIFT - select_vec(small, broadcast(23.0f), broadcast(0));
    const vec f = (vec)(bits - (n << 23)) - 1.0f, s = f / (f + 2.0f), square = s * s;
    const vec rest = near_1(f, s, ((square * (2.0f / 9) + 2.0f / 7) * square + 2.0f / 5) * square + 2.0f / 3);
    const vec found = whole * 0.693359375f + (f + (rest - whole * 2.12194440e-4f));
    const vec beyond = select_vec(v == 0, broadcast(-INFINITY), select_vec(v < 0, broadcast(NAN), v));
    return select_vec((v > 0) & (v < broadcast(INFINITY)), found, beyond);
}

/* With f = exp(-|v|), s is at most 1/3: the series to s^13 (error 2e-8 f). */
static inline vec softplus(vec v) {
    const vec f = exponential(-absolute(v)), s = f / (f + 2.0f), square = s * s;
    const vec high = (square * (2.0f / 13) + 2.0f / 11) * square + 2.0f / 9;
    return relu(v) + (f + near_1(f, s, ((high * square + 2.0f / 7) * square + 2.0f / 5) * square + 2.0f / 3));
}
#endif

static long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static long larger(long m, long n) { return m > n ? m : n; }
static long at_least_1(long n) { return larger(n, 1); }

/* Rows of tensors, and tiles of them: what a kernel's steps are written with. */

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
SHARED void load_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, real *tile);
/* And back. */
SHARED void store_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N,
                       const real *tile);
/* A part of each row, from element `begin` on. */
static struct view part_of(struct view tensor, long begin) {
    const struct view part = {tensor.data ? tensor.data + begin : NULL, tensor.clip_stride, tensor.frame_stride};
    return part;
}
/* Rows of N elements: zeros, or a tile added to them. */
SHARED void zero_rows(const struct clips *c, struct view tensor, long t, long n, long N);
SHARED void add_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, const real *tile);
/* A vec of a row of N elements, which may end within it. */
static inline void store_part(real *row, long j, long N, vec v) {
    if (j + V <= N) store(row + j, v);
    else store_some(row + j, v, N - j);
}
/* Elements k ... k + V of a row of K, zeros for what is beyond it. */
static inline vec load_within(const real *row, long k, long K) {
    return k + V <= K ? load(row + k) : k < K ? load_some(row + k, K - k) : broadcast(0);
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
SHARED void load_ahead(const struct clips *c, struct view tensor, long t, long ahead, long n, long N, real *tile);
/* The steps after which the derivatives of matrices are accumulated: those of 128 rows, which stay in the first cache;
   of more, where the matrices lie so far away that they are to be read and written less often. */
static long chunk_of(const struct clips *c, long H) {
    const long steps = (H < 512 ? MOST_CHUNK / 2 : MOST_CHUNK) / c->rows;
    return c->steps < steps ? c->steps : steps;
}
/* Where the rows of step t lie, N elements each, those of `none` if there is no tensor; the step's that comes next is asked
   for. */
SHARED void find_rows(const struct clips *c, struct view tensor, long t, long n, long N, const real *none,
                      const real **rows);
/* Zeros for the frames that no step reaches. */
SHARED void zero_padding(const struct clips *c, struct view tensor, long T, long N);

/* Memory that is read or written soon. Its lines are prefetched one by one while products are taken, which leave memory
   idle: all at once, they would be waited for. What is prefetched has to stay in the cache: `left` more bytes may be.
   The fewer at a time, the less products wait: slow are they where products pass so many rows of matrices, from one
   clearing to the next, that a prefetch with every fourth asks for most lines. */
enum { MOST_SPANS = 1024, MOST_BYTES = 1 << 18, LINE = 64 };
struct span { const char *begin, *end; };
struct prefetch_queue {
    const char *at, *end;
    const struct span *next;
    struct span *last;
    long left, passed, passed_before;
    int slow;
    struct span spans[MOST_SPANS];
};
SHARED void clear_prefetches(struct prefetch_queue *queue);
/* What steps read or write: rows of two tensors, and of what is saved `size` elements a step. */
struct memory { struct view tensors[2]; long N[2]; const real *saved[2]; long size[2]; };
SHARED void queue_step(struct prefetch_queue *queue, const struct clips *c, const struct memory *memory, long t, long n);
/* Prefetches the next line, where at, end, next and last are those of a queue: to be written, or into the second cache. */
#define PREFETCH_NEXT(writing) do { \
        __builtin_prefetch(at, writing, writing ? 3 : 2); \
        if ((at += LINE) >= end) { \
            at = end; \
            if (next < last) at = next->begin, end = next++->end; \
        } \
    } while (0)

/* A row of N elements, filled up with zeros to whole vecs. */
SHARED void fill(real *row, const real *from, long N);

static real *alloc_workspace(long elements) {
    void *workspace = NULL;
    return posix_memalign(&workspace, 64, (elements > 0 ? elements : 1) * sizeof(real)) ? NULL : workspace;
}

/* Threads that work on the groups of a batch; 1 if there is no memory. A group's tiles are worked on in order and by one
   thread, and what groups add to is added to in their order, so that the number of threads changes no bit. */
struct team;
SHARED int run_in_threads(int (*one)(const void *arguments, long group, long member, struct team *team),
                          const void *arguments, long groups, long threads);
/* total = part for the first group, total += part for the others, when all groups before have been added. */
SHARED void add_in_turn(struct team *team, long group, real *total, const real *part, long N);

/* Products of tiles and matrices, and the sums of outer products that are the derivatives of matrices. */

/* Elements of a packed matrix of n rows and m columns: panels of PANEL columns, each with n rows padded to whole vecs. */
static long packed_size(long n, long m) { return round_up(n, V) * round_up(m, PANEL); }
/* A matrix of n rows, whose element (k, j) is at k * down + j * right, as products read it. */
SHARED void pack(const real *matrix, long n, long m, long down, long right, real *packed);
#if defined(__AVX512F__)
/* A square of V rows, as its transpose of V rows of which the first n elements are stored. */
SHARED void transpose(const real *from, long stride, real *to, long to_stride, long n);
#endif
/* A packed matrix as a plain one: its transpose (m, n). */
SHARED void unpack(const real *packed, long n, long m, real *matrix);

/* The mean of all N rows of `count` matrices, K elements; and a matrix less a row, which it may take the place of. */
SHARED void mean_row(long count, const real *const *matrices, long N, long K, real *mean);
SHARED void less_row(const real *matrix, const real *row, long N, long K, real *to);
/* A matrix packed less a mean of n elements, or of m where it lies across. */
SHARED void pack_centred(const real *matrix, const real *mean, int across, long n, long m, long down, long right,
                         real *packed);

/* A matrix (H, d) of heads of d units multiplies vectors of H head by head. It is packed as panels too, of which each has
   but the rows of its columns' heads, and of units that share a vec with them: so many rows at most. */
static long most_rows(long H, long d) {
    const long most = d % PANEL ? PANEL % d ? PANEL + 2 * d + V : PANEL : d;
    return round_up(most < H ? most : H, V);
}
/* The rows of the panel of column j. */
struct rows { long begin, count; };
static struct rows rows_of_heads(long j, long H, long d) {
    const long last = j / PANEL * PANEL + PANEL < H ? j / PANEL * PANEL + PANEL - 1 : H - 1;
    const long begin = j / PANEL * PANEL / d * d / V * V, end = (last / d + 1) * d;
    return (struct rows){begin, (end < H ? end : H) - begin};
}
/* Such a matrix, or its transpose, as products read it. */
SHARED void pack_heads(const real *matrix, long H, long d, int across, real *packed);
SHARED void unpack_heads(const real *packed, long H, long d, real *matrix);

/* One term of a product: a tile of K columns times a matrix of K rows, packed. The matrix itself is (N, K);
   where it is taken less the mean of its group's rows, that is `mean`; if it is one of heads, these have d units. */
struct term { const real *tile, *packed; long K; const real *matrix, *mean; long d; };

/* Where a sum of products starts: elements from one row to the next, 0 if all have the same, and from vec to vec. */
struct origin { const real *data; long row, next; };

/* The first n rows of a tile out (rows, N): start + the sum of the terms. Lines of the queue are prefetched meanwhile. */
SHARED void product(long n, long rows, long N, const struct term *terms, int count,
                    struct origin start, real *out, struct prefetch_queue *queue);

/* How forward's products are taken at a step: the frame's have been taken `ahead` steps at a time, this one's being the
   slot-th (if ahead is 0, they are terms as others); matrices (N, K) that are used just once are not packed but, panel by
   panel, into `panels`. */
struct way { long n, rows, ahead, slot; real *panels; struct prefetch_queue *queue; };

/* A sum of N elements: the row start + its terms, of which the first `frames` are the frame's. */
SHARED void add_products(const struct way *way, long N, const struct term *terms, int count, int frames,
                         const real *start, const real *taken, real *out);
/* The frame's terms of the next steps, which have n rows in all. */
SHARED void add_ahead(const struct way *way, long N, long n, const struct term *terms, int frames, const real *start,
                      real *taken);

/* Tiles of the last steps, which lie `stride` elements from one step to the next. */
struct steps { const real *tiles; long stride; };

/* A packed matrix (K, N) += a' b, summed over `count` steps, of which each has its own number of rows. */
SHARED void outer(long count, const long *counts, long rows, long K, long N, struct steps a, struct steps b,
                  real *out, struct prefetch_queue *queue);
/* A matrix (N, K) = b' a of the first row of one step. */
SHARED void outer_row(long rows, long K, long N, struct steps a, struct steps b, real *out);
/* What outer does, of a matrix of heads of d units. */
SHARED void outer_heads(long count, const long *counts, long rows, long K, long d, long N, struct steps a, struct steps b,
                        real *out, struct prefetch_queue *queue);

/* Sums and maxima over the elements of rows. While a loop goes over the vecs of a row, the lanes of one vec for each row
   hold parts of them; at the end all lanes hold the whole. What lies beyond a row's last element is left out. */

static const integer LANES[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define ALL_LANES ((mask)load((const real *)LANES))
/* The first n lanes of a vec, all if there are more than V. */
static inline mask lanes_below(long n) { return ALL_LANES < (integer)(n < V ? n : V); }
static inline void enlarge(real *p, vec v) { store(p, maximum(load(p), v)); }

SHARED void begin_lanes(long n, real value, real *lanes);
SHARED void total_of_lanes(long n, real *lanes);
SHARED void largest_of_lanes(long n, real *lanes);

/* How products are taken.

   A sum is added up in the order of its terms and of their rows, in one accumulator, whatever the number of clips: a
   clip alone and the same clip among others agree to the bit. */

/* A vec that several rows are multiplied by is loaded once: compilers would load it for each of them again. */
#if defined(__AVX512F__)
#define KEEP_LOADED(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define KEEP_LOADED(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP_LOADED(v) __asm__("" : "+w"(v))
#else
#define KEEP_LOADED(v) (void)(v)
#endif

#if !BF16
/* sum + a b, where all lanes share a */
static inline vec add_product(vec sum, real a, vec b) { return sum + a * b; }
#endif

#if defined(__AVX512F__)
/* Squares of half its size change places, then those of half of that, ... */
static inline __attribute__((always_inline)) void transpose_square(vec *square) {
    static const integer lanes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const mask lane = (mask)load((const real *)lanes);
#pragma GCC unroll 4
    for (int half = V / 2; half > 0; half /= 2) {
        const mask odd = (lane & half) != 0, upper = lane + (odd & (V - half)), lower = upper + half;
#pragma GCC unroll 16
        for (int k = 0; k < V; k++)
            if (!(k & half)) {
                const vec a = square[k], b = square[k + half];
                square[k] = pick(a, upper, b);
                square[k + half] = pick(a, lower, b);
            }
    }
}
SHARED void transpose(const real *from, long stride, real *to, long to_stride, long n) {
    vec square[V];
#pragma GCC unroll 16
    for (int k = 0; k < V; k++) square[k] = load(from + k * stride);
    transpose_square(square);
#pragma GCC unroll 16
    for (int k = 0; k < V; k++)
        if (n == V) store(to + k * to_stride, square[k]);
        else store_some(to + k * to_stride, square[k], n);
}
#endif

/* Columns begin ... begin + wide of a matrix of n rows, whose element (k, j) is at k * down + j * right, as a panel. */
static void pack_panel(const real *matrix, long n, long wide, long down, long right, real *panel) {
    if (wide < PANEL) memset(panel, 0, n * PANEL * sizeof(real));
    for (long first = 0; first < n; first += V) {    /* few rows at a time, as one of the two strides is long */
        const long high = n - first < V ? n - first : V;
        long i = 0;
#if defined(__AVX512F__)
        for (; down == 1 && high == V && i + V <= wide; i += V)
            transpose(matrix + first + i * right, right, panel + first * PANEL + i, PANEL, V);
#endif
        if (right == 1)
            for (long k = first; k < first + high; k++)
                memcpy(panel + k * PANEL, matrix + k * down, wide * sizeof(real));
        else
            for (; i < wide; i++)
                for (long k = first; k < first + high; k++) panel[k * PANEL + i] = matrix[k * down + i * right];
    }
}
SHARED void pack(const real *matrix, long n, long m, long down, long right, real *packed) {
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL)
        pack_panel(matrix + j * right, n, m - j < PANEL ? m - j : PANEL, down, right, packed);
}

/* The panel of column j of a matrix of heads. */
static void pack_panel_of_heads(const real *matrix, long j, long H, long d, int across, real *panel) {
    const struct rows of = rows_of_heads(j, H, d);
    memset(panel, 0, of.count * PANEL * sizeof(real));
    for (long i = 0; i < PANEL && j + i < H; i++) {
        const long head = (j + i) / d * d;
        real *to = panel + (head - of.begin) * PANEL + i;
        for (long k = 0; k < d; k++, to += PANEL)
            *to = across ? matrix[(head + k) * d + j + i - head] : matrix[(j + i) * d + k];
    }
}
SHARED void pack_heads(const real *matrix, long H, long d, int across, real *packed) {
    for (long j = 0; j < H; j += PANEL, packed += most_rows(H, d) * PANEL)
        pack_panel_of_heads(matrix, j, H, d, across, packed);
}
SHARED void unpack_heads(const real *packed, long H, long d, real *matrix) {
    for (long j = 0; j < H; j++) {
        const real *from = packed + j / PANEL * PANEL * most_rows(H, d) + j % PANEL;
        from += (j / d * d - rows_of_heads(j, H, d).begin) * PANEL;
        for (long k = 0; k < d; k++) matrix[j * d + k] = from[k * PANEL];
    }
}

SHARED void unpack(const real *packed, long n, long m, real *matrix) {
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL) {
        const long wide = m - j < PANEL ? m - j : PANEL;
        for (long first = 0; first < n; first += V) {
            const long high = n - first < V ? n - first : V;
            const real *from = packed + first * PANEL;
            real *to = matrix + j * n + first;
            long i = 0;
#if defined(__AVX512F__)
            for (; i + V <= wide; i += V) transpose(from + i, PANEL, to + i * n, n, high);
#endif
            for (; i < wide; i++)
                for (long k = 0; k < high; k++) to[i * n + k] = from[k * PANEL + i];
        }
    }
}

SHARED void mean_row(long count, const real *const *matrices, long N, long K, real *mean) {
    for (long k = 0; k < K;) {
        vec sum[4] = {0};
        const long wide = K - k >= 4 * V ? 4 * V : K - k < V ? K - k : V;
        for (long m = 0; m < count; m++) {
            const real *from = matrices[m] + k;
            if (wide == 4 * V)
                for (long j = 0; j < N; j++, from += K)
#pragma GCC unroll 4
                    for (int w = 0; w < 4; w++) sum[w] += load(from + w * V);
            else
                for (long j = 0; j < N; j++, from += K) sum[0] += load_within(from, 0, wide);
        }
        for (long w = 0; w < wide; w += V) store_part(mean + k, w, wide, sum[w / V] / (real)(count * N));
        k += wide;
    }
}
SHARED void less_row(const real *matrix, const real *row, long N, long K, real *to) {
    for (long j = 0; j < N; j++, matrix += K, to += K)
        for (long k = 0; k < K; k += V) store_part(to, k, K, load_within(matrix, k, K) - load_within(row, k, K));
}

/* A panel of n rows, whose columns from `wide` on are zeros, less a mean: of n elements, or of the columns that are
   there, where it lies across. */
static void centre_panel(const real *mean, int across, long n, long wide, real *panel) {
    mask there[WIDE];
    vec columns[WIDE];
    for (int w = 0; w < WIDE; w++) {
        columns[w] = across ? load_within(mean, w * V, wide) : broadcast(0);
        there[w] = lanes_below(wide - w * V);
    }
    for (long k = 0; k < n; k++, panel += PANEL) {
        const vec all = across ? broadcast(0) : broadcast(mean[k]);
#pragma GCC unroll 4
        for (int w = 0; w < WIDE; w++)
            store(panel + w * V, load(panel + w * V) - (vec)(there[w] & (mask)(all + columns[w])));
    }
}
SHARED void pack_centred(const real *matrix, const real *mean, int across, long n, long m, long down, long right,
                         real *packed) {
    pack(matrix, n, m, down, right, packed);
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL)
        centre_panel(across ? mean + j : mean, across, n, m - j < PANEL ? m - j : PANEL, packed);
}

/* `high` rows and `wide` vecs of a sum of products; the vecs may lie in several panels. Where there is a
   queue, a line is prefetched with every row of a matrix, or with every fourth. */
static inline __attribute__((always_inline)) void block(const int high, const int wide, const struct term *terms,
                                                        int count, long row, long rows, long column,
                                                        struct origin start, real *out, struct prefetch_queue *queue,
                                                        const int every) {
    const char *at = queue ? queue->at : NULL, *end = queue ? queue->end : NULL;
    const struct span *next = queue ? queue->next : NULL, *const last = queue ? queue->last : NULL;
    vec sum[ROWS][4 * WIDE];    /* by one number alone, GCC 12 would not keep them in registers to the end */
    const real *from = start.data + column / V * start.next + row * start.row;
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 16
        for (int w = 0; w < wide; w++) sum[i][w] = load(from + w * start.next + i * start.row);
    for (int m = 0; m < count; m++) {
        const long panel_size = PANEL * round_up(terms[m].K, V);
        const real *v = terms[m].tile + row * V, *panel = terms[m].packed + column / PANEL * panel_size + column % PANEL;
        for (long left = terms[m].K; left > 0; left -= V, v += rows * V)
            for (long k = 0; k < (left < V ? left : V); k++, panel += PANEL) {
                vec right[4 * WIDE];
                if (queue && k % every == 0) PREFETCH_NEXT(1);
#pragma GCC unroll 16
                for (int w = 0; w < wide; w++) {
                    right[w] = load(panel + w / WIDE * panel_size + w % WIDE * V);
                    KEEP_LOADED(right[w]);
                }
#pragma GCC unroll 8
                for (int i = 0; i < high; i++)
#pragma GCC unroll 16
                    for (int w = 0; w < wide; w++) sum[i][w] = add_product(sum[i][w], v[i * V + k], right[w]);
            }
    }
    out += column * rows + row * V;
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 16
        for (int w = 0; w < wide; w++) store(out + w * rows * V + i * V, sum[i][w]);
    if (queue) queue->at = at, queue->end = end, queue->next = next;
}

/* Rows from ... to, which are a multiple of `high`, of a product. */
static inline __attribute__((always_inline)) void strip(const int high, const int wide, long from, long to, long rows,
                                                        long N, const struct term *terms, int count,
                                                        struct origin start, real *out, struct prefetch_queue *queue) {
    long j = 0;
#pragma GCC unroll 5
    for (int least = wide; least > 0; least = high == 1 ? least / 2 : least > 1)
        for (; N - j >= least * V; j += least * V)
            for (long r = from; r < to; r += high)
                if (high == ROWS && least == WIDE && queue->at < queue->end && queue->slow)
                    block(high, least, terms, count, r, rows, j, start, out, queue, 4);
                else if (high == ROWS && least == WIDE && queue->at < queue->end)
                    block(high, least, terms, count, r, rows, j, start, out, queue, 1);
                else block(high, least, terms, count, r, rows, j, start, out, NULL, 1);
}

/* Few rows take more columns at a time, so that there are sums enough under way to hide how long each addition takes. */
static int any_heads(const struct term *terms, int count) {
    for (int m = 0; m < count; m++)
        if (terms[m].d) return 1;
    return 0;
}
/* A term for the columns of the panel of column j alone. */
static struct term term_of_panel(const struct term *term, long rows, long j) {
    struct term one = *term;
    if (term->d) {
        const struct rows of = rows_of_heads(j, term->K, term->d);
        one.tile += of.begin * rows;
        one.packed += j * most_rows(term->K, term->d);
        one.K = of.count;
        one.d = 0;
    } else one.packed += j * round_up(term->K, V);
    return one;
}
SHARED void product(long n, long rows, long N, const struct term *terms, int count, struct origin start, real *out,
                    struct prefetch_queue *queue) {
    if (any_heads(terms, count)) {
        struct term one[count];
        for (long j = 0; j < N; j += PANEL) {
            for (int m = 0; m < count; m++) one[m] = term_of_panel(&terms[m], rows, j);
            const struct origin here = {start.data + j / V * start.next, start.row, start.next};
            product(n, rows, N - j < PANEL ? N - j : PANEL, one, count, here, out + j * rows, queue);
        }
        return;
    }
    long r = n / ROWS * ROWS;
    if (r) {
        for (int m = 0; m < count; m++) queue->passed += r / ROWS * (N / PANEL) * terms[m].K;
        strip(ROWS, WIDE, 0, r, rows, N, terms, count, start, out, queue);
    }
    if (ROWS > 4 && n - r >= 4) {
        strip(4, 2 * WIDE, r, r + 4, rows, N, terms, count, start, out, queue);
        r += 4;
    }
    if (ROWS > 2 && n - r >= 2) {
        strip(2, 2 * WIDE, r, r + 2, rows, N, terms, count, start, out, queue);
        r += 2;
    }
    if (r < n) strip(1, 4 * WIDE, r, r + 1, rows, N, terms, count, start, out, queue);
}

#if defined(__AVX512F__) && !BF16
static int special(const struct term *terms, int count) {
    for (int m = 0; m < count; m++)
        if (terms[m].d || terms[m].mean) return 1;
    return 0;
}
/* One row times matrices that are used just once: V rows of them at a time become V columns, which are multiplied by at
   once, in the order of all products. */
static void row_product(const struct term *terms, int count, long rows, long N, const real *start, real *out) {
    for (long j = 0; j < N; j += V, out += rows * V) {
        const long high = N - j < V ? N - j : V;
        vec sum = load(start + j);
        for (int m = 0; m < count; m++) {
            const long K = terms[m].K;
            const real *from = terms[m].matrix + j * K, *v = terms[m].tile;
            for (long k = 0; k < K; k += V, v += rows * V) {
                const long wide = K - k < V ? K - k : V;
                vec square[V];
#pragma GCC unroll 16
                for (int i = 0; i < V; i++)
                    square[i] = i < high ? load_within(from + i * K, k, K) : broadcast(0);
                transpose_square(square);
                if (wide == V)
#pragma GCC unroll 16
                    for (int i = 0; i < V; i++) sum += v[i] * square[i];
                else
                    for (int i = 0; i < wide; i++) sum += v[i] * square[i];
            }
        }
        store(out, sum);
    }
}
#endif

static void product_once(const struct way *way, long N, const struct term *terms, int count, struct origin start,
                         real *out) {
#if defined(__AVX512F__) && !BF16
    if (way->n == 1 && !special(terms, count)) {
        row_product(terms, count, way->rows, N, start.data, out);
        return;
    }
#endif
    struct term packed[count];
    for (long j = 0; j < N; j += PANEL) {
        const long wide = N - j < PANEL ? N - j : PANEL;
        real *panel = way->panels;
        for (int m = 0; m < count; m++) {
            const long K = terms[m].K;
            packed[m] = terms[m].d ? term_of_panel(&terms[m], way->rows, j) : terms[m];
            if (terms[m].d) pack_panel_of_heads(terms[m].matrix, j, K, terms[m].d, 0, panel);
            else pack_panel(terms[m].matrix + j * K, K, wide, 1, K, panel);
            if (terms[m].mean) centre_panel(terms[m].mean, 0, K, wide, panel);
            packed[m].packed = panel;
            panel += PANEL * round_up(K, V);
        }
        const struct origin here = {start.data + j / V * start.next, start.row, start.next};
        product(way->n, way->rows, round_up(wide, V), packed, count, here, out + j * way->rows,
                way->queue);
    }
}
SHARED void add_products(const struct way *way, long N, const struct term *terms, int count, int frames,
                         const real *start, const real *taken, real *out) {
    const struct origin row = {start, 0, V}, slot = {taken + way->slot * way->rows * V, V, way->ahead * way->rows * V};
    if (way->panels) product_once(way, N, terms, count, row, out);
    else if (way->ahead && frames)
        product(way->n, way->rows, round_up(N, V), terms + frames, count - frames, slot, out, way->queue);
    else product(way->n, way->rows, round_up(N, V), terms, count, row, out, way->queue);
}
SHARED void add_ahead(const struct way *way, long N, long n, const struct term *terms, int frames, const real *start,
                      real *taken) {
    product(n, way->ahead * way->rows, round_up(N, V), terms, frames, (struct origin){start, 0, V}, taken, way->queue);
}

/* ROWS rows and `wide` vecs of a packed matrix += the sum over steps and their rows of a' b. */
static inline __attribute__((always_inline)) void outer_block(const int wide, long count, const long *counts, long rows,
                                                              const real *a, long a_stride, const real *b,
                                                              long b_stride, real *out, struct prefetch_queue *queue) {
    const char *at = queue ? queue->at : NULL, *end = queue ? queue->end : NULL;
    const struct span *next = queue ? queue->next : NULL, *const last = queue ? queue->last : NULL;
    vec sum[ROWS][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sum[i][w] = load(out + i * PANEL + w * V);
    for (long s = 0; s < count; s++) {
        const real *p = a + s * a_stride, *q = b + s * b_stride;
        for (long r = 0; r < counts[s]; r++, p += V, q += V) {
            if (queue) PREFETCH_NEXT(0);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
                for (int w = 0; w < wide; w++) sum[i][w] = add_product(sum[i][w], p[i], load(q + w * rows * V));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) store(out + i * PANEL + w * V, sum[i][w]);
    if (queue) queue->at = at, queue->end = end, queue->next = next;
}

SHARED void outer(long count, const long *counts, long rows, long K, long N, struct steps a, struct steps b,
                  real *out, struct prefetch_queue *queue) {
    const long high = round_up(K, V);
    for (long j = 0; j < N; j += PANEL)
        for (long k = 0; k < K; k += ROWS) {
            const real *p = a.tiles + k / V * V * rows + k % V, *q = b.tiles + j * rows;
            real *place = out + j * high + k * PANEL;
            if (N - j >= PANEL && queue->at < queue->end)
                outer_block(WIDE, count, counts, rows, p, a.stride, q, b.stride, place, queue);
            else if (N - j >= PANEL)
                outer_block(WIDE, count, counts, rows, p, a.stride, q, b.stride, place, NULL);
            else
                for (long w = 0; w < N - j; w += V)
                    outer_block(1, count, counts, rows, p, a.stride, q + w * rows, b.stride, place + w, NULL);
        }
}
SHARED void outer_row(long rows, long K, long N, struct steps a, struct steps b, real *out) {
    for (long j = 0; j < N; j++, out += K) {
        const vec own = broadcast(b.tiles[j / V * V * rows + j % V]);
        for (long k = 0; k < K; k += V) store_part(out, k, K, own * load(a.tiles + k * rows));
    }
}
SHARED void outer_heads(long count, const long *counts, long rows, long K, long d, long N, struct steps a, struct steps b,
                        real *out, struct prefetch_queue *queue) {
    for (long j = 0; j < N; j += PANEL, out += most_rows(K, d) * PANEL) {
        const struct rows of = rows_of_heads(j, K, d);
        const struct steps left = {a.tiles + of.begin * rows, a.stride}, right = {b.tiles + j * rows, b.stride};
        outer(count, counts, rows, of.count, N - j < PANEL ? N - j : PANEL, left, right, out, queue);
    }
}

/* Rows of tensors into tiles and back. */

long vec_length(void) { return V; }

SHARED void load_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, real *tile) {
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

SHARED void store_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N,
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

SHARED void find_rows(const struct clips *c, struct view tensor, long t, long n, long N, const real *none,
                      const real **rows) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = 0; r < n; r++) {
        rows[r] = tensor.data ? row_of(c, &tensor, r, t) : none;
        if (tensor.data) PREFETCH(rows[r], soon, N, 0);
    }
}

SHARED void clear_prefetches(struct prefetch_queue *queue) {
    queue->at = queue->end = NULL;
    queue->next = queue->last = queue->spans;
    queue->left = MOST_BYTES;
    queue->passed_before = queue->passed;
    queue->passed = 0;
}
static void queue_range(struct prefetch_queue *queue, const real *from, long N) {
    const char *begin = (const char *)((uintptr_t)from & -(uintptr_t)LINE), *end = (const char *)(from + N);
    if (end - begin > queue->left) end = begin + queue->left;
    if (!N || begin >= end || queue->last == queue->spans + MOST_SPANS) return;
    queue->left -= end - begin;
    if (queue->at < queue->end) *queue->last++ = (struct span){begin, end};
    else queue->at = begin, queue->end = end;
}
SHARED void queue_step(struct prefetch_queue *queue, const struct clips *c, const struct memory *memory, long t, long n) {
    for (int k = 0; k < 2; k++)
        for (long r = 0; r < n && memory->tensors[k].data; r++)
            queue_range(queue, row_of(c, &memory->tensors[k], r, t), memory->N[k]);
    for (int k = 0; k < 2; k++)
        if (memory->saved[k]) queue_range(queue, memory->saved[k] + t * memory->size[k], memory->size[k]);
    queue->slow = queue->passed_before >= 3 * (MOST_BYTES - queue->left) / LINE;
}

SHARED void zero_rows(const struct clips *c, struct view tensor, long t, long n, long N) {
    for (long r = 0; r < n; r++) memset(row_of(c, &tensor, r, t), 0, N * sizeof(real));
}

SHARED void add_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long j = 0; j < N; j++) to[j] += tile[j / V * V * c->rows + r * V + j % V];
    }
}

SHARED void load_ahead(const struct clips *c, struct view tensor, long t, long ahead, long n, long N, real *tile) {
    struct clips all = *c;
    all.rows = ahead * c->rows;
    for (long s = 0; s < ahead && t + s < c->steps; s++, tile += c->rows * V) {
        n = running(c, t + s, n);
        load_tile(&all, tensor, t + s, 0, n, N, tile);
    }
}

SHARED void zero_padding(const struct clips *c, struct view tensor, long T, long N) {
    for (long r = 0; r < c->count; r++)
        for (long t = c->length[r]; t < T; t++)
            memset(tensor.data + c->place[r] * tensor.clip_stride + t * tensor.frame_stride, 0, N * sizeof(real));
}

SHARED void fill(real *row, const real *from, long N) {
    for (long j = 0; j < round_up(N, V); j++) row[j] = j < N ? from[j] : 0;
}

/* The threads of a call. */

#include <pthread.h>

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

SHARED void add_in_turn(struct team *team, long group, real *total, const real *part, long N) {
    pthread_mutex_lock(&team->lock);
    while (team->added != group) pthread_cond_wait(&team->turn, &team->lock);
    pthread_mutex_unlock(&team->lock);
    for (long j = 0; j < N; j += V) store(total + j, group ? load(total + j) + load(part + j) : load(part + j));
    pthread_mutex_lock(&team->lock);
    team->added++;
    pthread_cond_broadcast(&team->turn);
    pthread_mutex_unlock(&team->lock);
}

SHARED int run_in_threads(int (*one)(const void *, long, long, struct team *), const void *arguments, long groups,
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

/* Sums and maxima over the lanes of each row. */

SHARED void begin_lanes(long n, real value, real *lanes) {
    for (long r = 0; r < n; r++) store(lanes + r * V, broadcast(value));
}

/* Each lane and the one that stands `half` lanes from it, in the other half, change places. */
static inline vec across(vec v, long half) {
#if defined(__AVX512F__)
    return pick(v, ALL_LANES ^ (integer)half, v);
#else
    vec found;
    for (long k = 0; k < V; k++) found[k] = v[k ^ half];
    return found;
#endif
}
SHARED void total_of_lanes(long n, real *lanes) {
    for (long r = 0; r < n; r++) {
        vec v = load(lanes + r * V);
#pragma GCC unroll 4
        for (long half = V / 2; half; half /= 2) v += across(v, half);
        store(lanes + r * V, v);
    }
}

SHARED void largest_of_lanes(long n, real *lanes) {
    for (long r = 0; r < n; r++) {
        vec v = load(lanes + r * V);
#pragma GCC unroll 4
        for (long half = V / 2; half; half /= 2) v = maximum(v, across(v, half));
        store(lanes + r * V, v);
    }
}

/* Matrices of heads: of H units there are H / d heads of d units, each with a matrix (d, d): H rows of d columns. In a
   tile every vec of units has its d columns one after another: element (u, k) of row r stands at
   ((u / V * rows + r) * d + k) * V + u % V. */

/* The first unit of the head of each unit from j on; units beyond the last one are of its head. */
static inline mask heads_of(long j, long H, long d) {
    mask first;
    for (long k = 0; k < V; k++) first[k] = (integer)((j + k < H ? j + k : H - 1) / d * d);
    return first;
}
/* Whether they are all of one head. */
static inline long one_head(long j, long H, long d) { return j / d == (j + V < H ? j + V - 1 : H - 1) / d; }

/* For each unit the element of its head, of which head `from` is the first: all the same, if there is one head. */
static inline vec column_of(const real *row, mask from, long one) {
    if (one) return broadcast(row[from[0]]);
#if defined(__AVX512F__) && !DOUBLE
    vec found = {0};
    unsigned short all = 0xffff;
    __asm__("vgatherdps (%2,%3,4), %0%{%1%}"
            : "+&v"(found), "+&Yk"(all) : "r"(row), "v"(from), "m"(*(const real (*)[])row));
    return found;
#else
    vec found;
    for (long k = 0; k < V; k++) found[k] = row[from[k]];
    return found;
#endif
}
/* A tile of N units as lines, one for each row, and back. */
SHARED void to_lines(long n, long rows, long N, const real *tile, real *lines);
SHARED void from_lines(long n, long rows, long N, const real *lines, real *tile);
SHARED void zero_lines(long n, long N, real *lines);
/* A line += the sums of the columns of some units, of which the first N are there: those of unit u, whose head is at
   from[u], are lane u of d vecs. */
SHARED void add_columns(const real *columns, long d, mask from, long one, long N, real *line);
/* Matrices (H, d) of clips into a tile and back; what fills up the last vec of units is 0. */
SHARED void load_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                       real *tile);
SHARED void store_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                        const real *tile);
/* One matrix (H, d) as a tile of one row has it, and back. */
SHARED void fill_heads(real *row, const real *from, long H, long d);
SHARED void unfill_heads(real *to, const real *row, long H, long d);

/* Matrices of heads into tiles and back, and sums of their columns. */

SHARED void to_lines(long n, long rows, long N, const real *tile, real *lines) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(lines + r * round_up(N, V) + j, load(tile + j * rows + r * V));
}

SHARED void from_lines(long n, long rows, long N, const real *lines, real *tile) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(tile + j * rows + r * V, load(lines + r * round_up(N, V) + j));
}

SHARED void zero_lines(long n, long N, real *lines) {
    memset(lines, 0, n * round_up(N, V) * sizeof(real));
}

SHARED void add_columns(const real *columns, long d, mask from, long one, long N, real *line) {
    if (N > V) N = V;
    for (long k = 0; k < d; k += V) {
        const long wide = d - k < V ? d - k : V;
        real square[V * V];
#if defined(__AVX512F__)
        transpose(columns + k * V, V, square, V, V);
#else
        for (long u = 0; u < N; u++)
            for (long m = 0; m < wide; m++) square[u * V + m] = columns[(k + m) * V + u];
#endif
        for (long u = 0; u < N;) {
            real *to = line + from[u] + k;
            vec sum = load_some(to, wide);
            do sum += load_some(square + u * V, wide);
            while (++u < N && from[u] == from[u - 1]);
            store_some(to, sum, wide);
        }
    }
}

SHARED void load_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                       real *tile) {
    for (long r = begin; r < end; r++) {
        const real *from = tensor.data ? row_of(c, &tensor, r, t) : NULL;
        for (long j = 0; j < H; j += V) {
            real *to = tile + (j * c->rows + r * V) * d;
            for (long k = 0; k < d; k++)
                for (long u = 0; u < V; u++) to[k * V + u] = from && j + u < H ? from[(j + u) * d + k] : 0;
        }
    }
}

SHARED void store_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                        const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long u = 0; u < H; u++)
            for (long k = 0; k < d; k++) to[u * d + k] = tile[((u / V * c->rows + r) * d + k) * V + u % V];
    }
}

SHARED void fill_heads(real *row, const real *from, long H, long d) {
    for (long u = 0; u < round_up(H, V); u++)
        for (long k = 0; k < d; k++) row[(u / V * d + k) * V + u % V] = u < H ? from[u * d + k] : 0;
}

SHARED void unfill_heads(real *to, const real *row, long H, long d) {
    for (long u = 0; u < H; u++)
        for (long k = 0; k < d; k++) to[u * d + k] = row[(u / V * d + k) * V + u % V];
}
