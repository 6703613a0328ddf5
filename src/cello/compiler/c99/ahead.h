/* As add_product for `count` vectors, of which one stands v_stride NUMBERS after the one before, and its sum sum_stride
   NUMBERS after that one's: some vectors at a time, while a block of the matrix is in the first cache. */
static void add_products(int count, int blocks, int columns, const float *matrix, int block_stride, const NUMBER *vectors,
                         int v_stride, NUMBER *sums, int sum_stride) {
    enum { VECS = LANES < 8 && ROWS > LANES ? 2 : 1, AT_ONCE = 4 / VECS };
    int done = 0;
#if MODEL_AHEAD > 1
    done = count / AT_ONCE * AT_ONCE;
    for (int block = 0; block < blocks; block++)
        for (int row = block * ROWS; row < (block + 1) * ROWS; row += VECS * LANES)
            for (int t = 0; t < done; t += AT_ONCE) {
#if FLOATS
                const float *w = matrix + block * block_stride + (row - block * ROWS), *const v = vectors + t * v_stride;
#else
                const float *w = matrix + block * block_stride + (row - block * ROWS);
                const NUMBER *const v = vectors + t * v_stride;
#endif
                NUMBER *const sum = sums + t * sum_stride + row;
                vec even[AT_ONCE][VECS], odd[AT_ONCE][VECS];
                int k = 0;
                UNROLLED for (int n = 0; n < AT_ONCE; n++)
                    UNROLLED for (int r = 0; r < VECS; r++) {
                        even[n][r] = load(sum + n * sum_stride + r * LANES);
                        odd[n][r] = broadcast(0.0f);
                    }
                for (; k + 2 <= columns; k += 2, w += 2 * ROWS)
                    UNROLLED for (int r = 0; r < VECS; r++) {
                        const vec first = WEIGHTS(w + r * LANES), second = WEIGHTS(w + ROWS + r * LANES);
                        UNROLLED for (int n = 0; n < AT_ONCE; n++) {
                            even[n][r] += first * v[n * v_stride + k];
                            odd[n][r] += second * v[n * v_stride + k + 1];
                        }
                    }
                if (k < columns) {
                    UNROLLED for (int n = 0; n < AT_ONCE; n++)
                        UNROLLED for (int r = 0; r < VECS; r++) even[n][r] += WEIGHTS(w + r * LANES) * v[n * v_stride + k];
                }
                UNROLLED for (int n = 0; n < AT_ONCE; n++)
                    UNROLLED for (int r = 0; r < VECS; r++)
                        store(sum + n * sum_stride + r * LANES, even[n][r] + odd[n][r]);
            }
#endif
    for (int t = done; t < count; t++)
        add_product(blocks, columns, matrix, block_stride, ROWS, vectors + t * v_stride, sums + t * sum_stride);
}
