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
