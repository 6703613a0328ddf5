/* Matrices of whole numbers of 8 bits whose rows are to be scaled, each weight rounded to a float. A column has 4 words for
   each 16 rows; byte k of word l is row 4 * k + l. Columns are padded to an even number with zeros. */
LOCAL void add_product_int8(int blocks, int columns, const int8_t *matrix, const float *scale, const double *v,
                            double *sum) {
    for (int block = 0; block < blocks; block++, sum += 16, scale += 16, matrix += (columns + 1) / 2 * 32)
        for (int r = 0; r < 16; r++) {
            double even = sum[r], odd = 0;
            int k = 0;
            for (const int8_t *w = matrix + r % 4 * 4 + r / 4; k < columns; k++, w += 16) {
                const float weight = (float)*w * scale[r];
                if (k % 2) odd += weight * v[k];
                else even += weight * v[k];
            }
            sum[r] = even + odd;
        }
}
