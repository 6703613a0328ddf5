/* LANES whole numbers of 8 bits as floats. */
#if LANES > 1
typedef int8_t small __attribute__((vector_size(LANES), aligned(1), may_alias));
LOCAL vec load_int8(const int8_t *p) {
    return to_float(__builtin_convertvector(*(const small *)p, whole));
}
#else
LOCAL vec load_int8(const int8_t *p) { return (vec)*p; }
#endif

/* As add_product, of a matrix of whole numbers whose rows are to be scaled; it lies without gaps. */
LOCAL void add_product_int8(int blocks, int columns, const int8_t *matrix, const float *scale, const float *v,
                            float *sum) {
    for (int block = 0; block < blocks; block++, sum += ROWS, scale += ROWS) {
        vec even[ROWS / LANES], odd[ROWS / LANES];
        int k = 0;
        UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] = odd[r] = broadcast(0.0f);
        for (; k + 2 <= columns; k += 2, matrix += 2 * ROWS) {
            const float first = v[k], second = v[k + 1];
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) {
                even[r] += load_int8(matrix + r * LANES) * first;
                odd[r] += load_int8(matrix + ROWS + r * LANES) * second;
            }
        }
        if (k < columns) {
            UNROLLED for (int r = 0; r < ROWS / LANES; r++) even[r] += load_int8(matrix + r * LANES) * v[k];
            matrix += ROWS;
        }
        UNROLLED for (int r = 0; r < ROWS / LANES; r++)
            store(sum + r * LANES, load(sum + r * LANES) + (even[r] + odd[r]) * load(scale + r * LANES));
    }
}
