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
