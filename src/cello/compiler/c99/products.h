/* Products of matrices and vectors. */
/* sum (blocks * ROWS,) += a matrix times v (columns,). Row r of column k of a block stands at block * block_stride +
   k * column_stride + r; even and odd columns are summed apart, so that two sums run at once. */
LOCAL void add_product(int blocks, int columns, const float *matrix, int block_stride, int column_stride,
                       const NUMBER *v, NUMBER *sum) {
    for (int block = 0; block < blocks; block++, sum += ROWS) {
        const float *w = matrix + block * block_stride;
        vec even[ROWS / LANES], odd[ROWS / LANES];
        int k = 0;
        UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] = load(sum + r * LANES), odd[r] = broadcast(0.0f);
        for (; k + 2 <= columns; k += 2, w += 2 * column_stride) {
            const NUMBER first = v[k], second = v[k + 1];
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) {
                even[r] += WEIGHTS(w + r * LANES) * first;
                odd[r] += WEIGHTS(w + column_stride + r * LANES) * second;
            }
        }
        if (k < columns) {
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] += WEIGHTS(w + r * LANES) * v[k];
        }
        UNROLLED for (int r = 0; r < ROWS / LANES; r++) store(sum + r * LANES, even[r] + odd[r]);
    }
}
