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
