/* Products with a matrix whose elements are all the same number: the sum of each row's elements times that number. */

/* The first n rows of a tile out (rows, N): start + factor * the sum of a row of v, a tile of K columns. The start is a
   row, read from vec to vec by `step` elements, or out itself, if it is NULL. */
static void add_row_sums(long n, long rows, long K, long N, const real *v, real factor, const real *start, long step,
                         real *out) {
    for (long r = 0; r < n; r++) {
        const real *from = v + r * V;
        vec total = broadcast(0);
        long k = 0;
        for (; k + V <= K; k += V, from += rows * V) total += load(from);
        if (k < K) total += load_some(from, K - k);
        real sum = 0;
        for (int lane = 0; lane < V; lane++) sum += total[lane];
        const vec share = broadcast(sum * factor);
        for (long j = 0; j < N; j += V) {
            real *to = out + j * rows + r * V;
            store(to, (start ? load(start + j / V * step) : load(to)) + share);
        }
    }
}
