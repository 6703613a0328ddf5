/* Matrices of whole numbers of 8 bits whose rows are to be scaled. A column has 4 words for each 16 rows; byte k of word l
   is row 4 * k + l, so that shifts of whole words take the rows apart. Columns are padded to an even number with zeros. */
#if LANES >= 8 || ASKED
typedef float halves __attribute__((vector_size(32)));

/* Eight numbers that stand side by side, as floats: two instructions, the second of which GCC finds by itself. */
#if defined(__clang__)
typedef int8_t eight_bytes __attribute__((vector_size(8), aligned(1), may_alias));
AVX2 LOCAL halves eight_of(const int8_t *p) { return __builtin_convertvector(*(const eight_bytes *)p, halves); }
#else
typedef int64_t quads __attribute__((vector_size(16)));
typedef char sixteen_bytes __attribute__((vector_size(16)));
typedef int32_t words __attribute__((vector_size(32)));
typedef int64_t quad_anywhere __attribute__((aligned(1), may_alias));
AVX2 LOCAL halves eight_of(const int8_t *p) {
    const quads eight = {*(const quad_anywhere *)p, 0};
    return __builtin_convertvector((words)__builtin_ia32_pmovsxbd256((sixteen_bytes)eight), halves);
}
#endif

/* 16 rows of a product, in the order of their bytes until the end. */
AVX2 LOCAL void int8_avx2(int columns, const int8_t *matrix, const float *v, float *total) {
    halves even[2] = {{0}, {0}}, odd[2] = {{0}, {0}};
    float apart[16];
    int k = 0;
    for (; k + 2 <= columns; k += 2, matrix += 32)
        UNROLLED for (int r = 0; r < 2; r++) {
            even[r] += eight_of(matrix + 8 * r) * v[k];
            odd[r] += eight_of(matrix + 16 + 8 * r) * v[k + 1];
        }
    if (k < columns) {
        UNROLLED for (int r = 0; r < 2; r++) even[r] += eight_of(matrix + 8 * r) * v[k];
    }
    UNROLLED for (int r = 0; r < 2; r++) even[r] += odd[r];
    memcpy(apart, even, sizeof apart);
    for (int r = 0; r < 4; r++) {
        UNROLLED for (int l = 0; l < 4; l++) total[4 * r + l] = apart[4 * l + r];
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
