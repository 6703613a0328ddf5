/* Products of matrices and vectors. */
/* sum (blocks * ROWS,) += a matrix times v (columns,). Row r of column k of a block stands at block * block_stride +
   k * column_stride + r; even and odd columns are summed apart, so that two sums run at once. */
LOCAL void add_product(int blocks, int columns, const float *matrix, int block_stride, int column_stride,
                       const float *v, float *sum) {
    for (int block = 0; block < blocks; block++, sum += ROWS) {
        const float *w = matrix + block * block_stride;
        vec even[ROWS / LANES], odd[ROWS / LANES];
        int k = 0;
        UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] = load(sum + r * LANES), odd[r] = broadcast(0.0f);
        for (; k + 2 <= columns; k += 2, w += 2 * column_stride) {
            const float first = v[k], second = v[k + 1];
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) {
                even[r] += load(w + r * LANES) * first;
                odd[r] += load(w + column_stride + r * LANES) * second;
            }
        }
        if (k < columns) {
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] += load(w + r * LANES) * v[k];
        }
        UNROLLED for (int r = 0; r < ROWS / LANES; r++) store(sum + r * LANES, even[r] + odd[r]);
    }
}
