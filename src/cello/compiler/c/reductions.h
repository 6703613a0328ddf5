/* Sums and maxima over the elements of rows. While a loop goes over the vecs of a row, the lanes of one vec for each row
   hold parts of them; at the end all lanes hold the whole. What lies beyond a row's last element is left out. */

/* The first n lanes of a vec, all if there are more than V. */
static inline mask lanes_below(long n) {
    static const integer lanes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (mask)load((const real *)lanes) < (integer)(n < V ? n : V);
}
static inline void enlarge(real *p, vec v) { store(p, maximum(load(p), v)); }

static void begin_lanes(long n, real value, real *lanes) {
    for (long r = 0; r < n; r++) store(lanes + r * V, broadcast(value));
}
/* Lanes are joined in halves, in one order everywhere. */
static void total_of_lanes(long n, real *lanes) {
    for (real *row = lanes; row < lanes + n * V; row += V) {
        real part[V];
        store(part, load(row));
        for (long half = V / 2; half; half /= 2)
            for (long k = 0; k < half; k++) part[k] += part[k + half];
        store(row, broadcast(part[0]));
    }
}
static void largest_of_lanes(long n, real *lanes) {
    for (real *row = lanes; row < lanes + n * V; row += V) {
        real most = row[0];
        for (long k = 1; k < V; k++) most = most > row[k] ? most : row[k] >= most ? row[k] : most + row[k];
        store(row, broadcast(most));
    }
}
