/* Matrices of heads: of H units there are H / d heads of d units, each with a matrix (d, d): H rows of d columns. In a
   tile every vec of units has its d columns one after another: element (u, k) of row r stands at
   ((u / V * rows + r) * d + k) * V + u % V. */

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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
    return (vec)_mm512_i32gather_ps((__m512i)from, row, sizeof(real));
#else
    vec found;
    for (long k = 0; k < V; k++) found[k] = row[from[k]];
    return found;
#endif
}
/* A tile of N units as lines, one for each row, and back. */
static void to_lines(long n, long rows, long N, const real *tile, real *lines) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(lines + r * round_up(N, V) + j, load(tile + j * rows + r * V));
}
static void from_lines(long n, long rows, long N, const real *lines, real *tile) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(tile + j * rows + r * V, load(lines + r * round_up(N, V) + j));
}
static void zero_lines(long n, long N, real *lines) {
    memset(lines, 0, n * round_up(N, V) * sizeof(real));
}
/* A line += the sums of the columns of some units, of which the first N are there: those of unit u, whose head is at
   from[u], are lane u of d vecs. */
static void add_columns(const real *columns, long d, mask from, long one, long N, real *line) {
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
/* Matrices (H, d) of clips into a tile and back; what fills up the last vec of units is 0. */
static void load_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
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
static void store_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                        const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long u = 0; u < H; u++)
            for (long k = 0; k < d; k++) to[u * d + k] = tile[((u / V * c->rows + r) * d + k) * V + u % V];
    }
}
/* One matrix (H, d) as a tile of one row has it, and back. */
static void fill_heads(real *row, const real *from, long H, long d) {
    for (long u = 0; u < round_up(H, V); u++)
        for (long k = 0; k < d; k++) row[(u / V * d + k) * V + u % V] = u < H ? from[u * d + k] : 0;
}
static void unfill_heads(real *to, const real *row, long H, long d) {
    for (long u = 0; u < H; u++)
        for (long k = 0; k < d; k++) to[u * d + k] = row[(u / V * d + k) * V + u % V];
}
