/* Products of matrices and vectors. */
#if ASKED
typedef float eight __attribute__((vector_size(32)));
typedef float eight_anywhere __attribute__((vector_size(32), aligned(4), may_alias));
#define EIGHT(p) (*(const eight_anywhere *)(p))

/* As add_product below. */
AVX2 static void add_product_avx2(int blocks, int columns, const float *matrix, int block_stride, int column_stride,
                                  const float *v, float *sum) {
    for (int block = 0; block < blocks; block++, sum += ROWS) {
        const float *w = matrix + block * block_stride;
        eight even[ROWS / 8], odd[ROWS / 8];
        int k = 0;
        UNROLLED for (int r = 0; r < ROWS / 8; r++) even[r] = EIGHT(sum + r * 8), odd[r] = (eight){0};
        for (; k + 2 <= columns; k += 2, w += 2 * column_stride) {
            const float first = v[k], second = v[k + 1];
            UNROLLED for (int r = 0; r < ROWS / 8; r++) {
                even[r] += EIGHT(w + r * 8) * first;
                odd[r] += EIGHT(w + column_stride + r * 8) * second;
            }
        }
        if (k < columns) {
            UNROLLED for (int r = 0; r < ROWS / 8; r++) even[r] += EIGHT(w + r * 8) * v[k];
        }
        UNROLLED for (int r = 0; r < ROWS / 8; r++) *(eight_anywhere *)(sum + r * 8) = even[r] + odd[r];
    }
}
#endif

/* sum (blocks * ROWS,) += a matrix times v (columns,). Row r of column k of a block stands at block * block_stride +
   k * column_stride + r; even and odd columns are summed apart, so that two sums run at once. */
LOCAL void add_product(int blocks, int columns, const float *matrix, int block_stride, int column_stride,
                       const float *v, float *sum) {
#if ASKED
    if (__builtin_cpu_supports("avx2")) {
        add_product_avx2(blocks, columns, matrix, block_stride, column_stride, v, sum);
        return;
    }
#endif
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
