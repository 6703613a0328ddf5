/* Matrices of whole numbers of 8 bits whose rows are to be scaled. A column has 4 words for each 16 rows; byte k of word l
   is row 4 * k + l, so that shifts of whole words take the rows apart. Columns are padded to an even number with zeros. */
#if LANES >= 8 || ASKED
typedef float halves __attribute__((vector_size(32)));
typedef int32_t words __attribute__((vector_size(32)));
typedef uint32_t unsigned_words __attribute__((vector_size(32)));
typedef unsigned_words words_anywhere __attribute__((aligned(1), may_alias));

/* 16 rows of a product; the lower half of a vector is the even column's, the upper half the odd one's. */
AVX2 LOCAL void int8_avx2(int columns, const int8_t *matrix, const float *v, float *total) {
    halves both[4] = {{0}, {0}, {0}, {0}};
    for (int k = 0; k < columns; k += 2, matrix += 32) {
        const float a = v[k], b = k + 1 < columns ? v[k + 1] : 0.0f;
        const halves factor = {a, a, a, a, b, b, b, b};
        const unsigned_words w = *(const words_anywhere *)matrix;
        UNROLLED for (int r = 0; r < 4; r++)
            both[r] += __builtin_convertvector((words)(w << (24 - 8 * r)) >> 24, halves) * factor;
    }
    UNROLLED for (int r = 0; r < 4; r++) {
        float apart[8];
        memcpy(apart, &both[r], sizeof apart);
        UNROLLED for (int l = 0; l < 4; l++) total[4 * r + l] = apart[l] + apart[4 + l];
    }
}
#endif
#if LANES == 4
typedef bits bits_anywhere __attribute__((aligned(1), may_alias));

/* 16 rows of a product. */
LOCAL void int8_rows(int columns, const int8_t *matrix, const float *v, float *total) {
    vec even[4] = {{0}, {0}, {0}, {0}}, odd[4] = {{0}, {0}, {0}, {0}};
    for (int k = 0; k < columns; k += 2, matrix += 32) {
        const float a = v[k], b = k + 1 < columns ? v[k + 1] : 0.0f;
        const bits w = *(const bits_anywhere *)matrix, u = *(const bits_anywhere *)(matrix + 16);
        UNROLLED for (int r = 0; r < 4; r++) {
            even[r] += to_float((whole)(w << (24 - 8 * r)) >> 24) * a;
            odd[r] += to_float((whole)(u << (24 - 8 * r)) >> 24) * b;
        }
    }
    UNROLLED for (int r = 0; r < 4; r++) store(total + 4 * r, even[r] + odd[r]);
}
#elif LANES == 1
LOCAL void int8_rows(int columns, const int8_t *matrix, const float *v, float *total) {
    float even[16] = {0}, odd[16] = {0};
    for (int k = 0; k < columns; k += 2, matrix += 32) {
        const float a = v[k], b = k + 1 < columns ? v[k + 1] : 0.0f;
        for (int r = 0; r < 16; r++) even[r] += (float)matrix[r] * a, odd[r] += (float)matrix[16 + r] * b;
    }
    for (int r = 0; r < 16; r++) total[r] = even[r % 4 * 4 + r / 4] + odd[r % 4 * 4 + r / 4];
}
#endif

/* sum (blocks * 16,) += a matrix times v (columns,). */
LOCAL void add_product_int8(int blocks, int columns, const int8_t *matrix, const float *scale, const float *v,
                            float *sum) {
    for (int block = 0; block < blocks; block++, sum += 16, scale += 16, matrix += (columns + 1) / 2 * 32) {
        float total[16];
#if LANES >= 8
        int8_avx2(columns, matrix, v, total);
#elif ASKED
        if (__builtin_cpu_supports("avx2")) int8_avx2(columns, matrix, v, total);
        else int8_rows(columns, matrix, v, total);
#else
        int8_rows(columns, matrix, v, total);
#endif
        for (int r = 0; r < 16; r += LANES) store(sum + r, load(sum + r) + load(total + r) * load(scale + r));
    }
}
