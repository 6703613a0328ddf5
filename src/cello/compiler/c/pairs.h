/* Operands of products in bfloat16. A `real` of theirs is a pair of neighbours along the axis that is summed up; the last
   of an odd number has 0 beside it. Tiles and packed matrices of pairs lie as those of numbers do, with half as many. */

static long pairs_of(long n) { return (n + 1) / 2; }

/* The first n rows of a tile (rows, K) as pairs along its columns, which products are taken of. */
SHARED void pair_columns(long n, long rows, long K, const real *tile, real *pairs);

/* The rows of all steps' tiles (rows, K), of which each has its own number, one after another and as pairs of rows. */
SHARED void pair_rows(long count, const long *counts, long rows, long K, struct steps steps, real *pairs);
/* How many pairs that are. */
SHARED long row_pairs(long count, const long *counts);

/* A matrix packed as pairs of rows, in the memory of one packed as numbers. */
SHARED void pack_pairs(const real *matrix, long n, long m, long down, long right, real *packed);
SHARED void pack_centred_pairs(const real *matrix, const real *mean, int across, long n, long m, long down, long right,
                               real *packed);
