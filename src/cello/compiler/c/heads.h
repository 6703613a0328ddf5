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
/* A vector of H * d elements is a matrix (H, d), row by row: of row r of a tile of such vectors the d elements of the units
   from j on as d vecs of units, and back. Units beyond the last one have 0. Behind the vecs is memory for V * d + V. */
SHARED void take_units(const real *tile, long rows, long r, long j, long H, long d, real *units);
SHARED void give_units(real *units, long rows, long r, long j, long H, long d, real *tile);
/* Where matrices lie: in a tile of so many rows, or one and the same for all rows. */
struct of_heads {
    const real *tile;
    long rows, same;
};
/* Products of matrices, of heads of d units: A B and Aᵀ B, of A (H, d) and B (H, N); A Bᵀ of two (H, N), which gives (H, d).
   Memory for (d + N) * V + d * N comes with it. */
enum product_of_heads { MULTIPLY, MULTIPLY_TRANSPOSED, TRANSPOSED_MULTIPLY };
SHARED void multiply_heads(enum product_of_heads which, long n, long rows, long H, long d, long N, struct of_heads a,
                           struct of_heads b, real *to, real *memory);
/* Matrices (H, d) of clips into a tile and back; what fills up the last vec of units is 0. */
SHARED void load_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                       real *tile);
SHARED void store_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                        const real *tile);
/* One matrix (H, d) as a tile of one row has it, and back. */
SHARED void fill_heads(real *row, const real *from, long H, long d);
SHARED void unfill_heads(real *to, const real *row, long H, long d);
