/* Sums and maxima of vectors; 8 sums at once, in the same order for all LANES. */
LOCAL NUMBER total(const NUMBER *v, int n) {
    NUMBER sums[8] = {0};
    int k = 0;
    for (; k + 8 <= n; k += 8)
        for (int l = 0; l < 8; l++) sums[l] += v[k + l];
    for (int l = 0; l < 8 && k < n; k++, l++) sums[l] += v[k];
    for (int l = 0; l < 4; l++) sums[l] += sums[l + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

LOCAL NUMBER greatest(const NUMBER *v, int n) {
    NUMBER found = v[0];
    for (int k = 1; k < n; k++) found = v[k] > found || v[k] != v[k] ? v[k] : found;
    return found;
}

/* sums (n,) += row (n,) */
LOCAL void add_row(NUMBER *sums, const NUMBER *row, int n) {
    for (int k = 0; k < n; k++) sums[k] += row[k];
}

/* Where the elements of a block of d rows of a matrix are: its rows are `width` apart; in the product of two, next rows (left)
   or the next term of a sum (right) are `down` apart, the next term (left) or columns (right) `across`. */
struct sides {
    int width, down, across;
};
/* A product (units, columns) of matrices, block by block of d rows, of sums of so many terms. */
#define PRODUCT_OF_MATRICES(name, LEFT, RIGHT) \
    LOCAL void name(int units, int d, int columns, int terms, const LEFT *left, struct sides from, const RIGHT *right, \
                    struct sides by, NUMBER *product) { \
        for (int u = 0; u < units; u++) { \
            const int head = u / d * d; \
            const LEFT *a = left + head * from.width + (u - head) * from.down; \
            const RIGHT *b = right + head * by.width; \
            for (int c = 0; c < columns; c++) { \
                NUMBER sum = 0; \
                for (int k = 0; k < terms; k++) sum += a[k * from.across] * b[k * by.down + c * by.across]; \
                product[u * columns + c] = sum; \
            } \
        } \
    }
PRODUCT_OF_MATRICES(multiply, NUMBER, NUMBER)
PRODUCT_OF_MATRICES(multiply_weights, float, NUMBER)
PRODUCT_OF_MATRICES(multiply_by_weights, NUMBER, float)
