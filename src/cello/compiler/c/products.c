/* How products are taken.

   A sum is added up in the order of its terms and of their rows, in one accumulator, whatever the number of clips: a
   clip alone and the same clip among others agree to the bit. */

/* A vec that several rows are multiplied by is loaded once: compilers would load it for each of them again. */
#if defined(__AVX512F__)
#define KEEP_LOADED(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define KEEP_LOADED(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP_LOADED(v) __asm__("" : "+w"(v))
#else
#define KEEP_LOADED(v) (void)(v)
#endif

#if !BF16
/* sum + a b, where all lanes share a */
static inline vec add_product(vec sum, real a, vec b) { return sum + a * b; }
#endif

#if defined(__AVX512F__)
/* Squares of half its size change places, then those of half of that, ... */
static inline __attribute__((always_inline)) void transpose_square(vec *square) {
    static const integer lanes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const mask lane = (mask)load((const real *)lanes);
#pragma GCC unroll 4
    for (int half = V / 2; half > 0; half /= 2) {
        const mask odd = (lane & half) != 0, upper = lane + (odd & (V - half)), lower = upper + half;
#pragma GCC unroll 16
        for (int k = 0; k < V; k++)
            if (!(k & half)) {
                const vec a = square[k], b = square[k + half];
                square[k] = pick(a, upper, b);
                square[k + half] = pick(a, lower, b);
            }
    }
}
SHARED void transpose(const real *from, long stride, real *to, long to_stride, long n) {
    vec square[V];
#pragma GCC unroll 16
    for (int k = 0; k < V; k++) square[k] = load(from + k * stride);
    transpose_square(square);
#pragma GCC unroll 16
    for (int k = 0; k < V; k++)
        if (n == V) store(to + k * to_stride, square[k]);
        else store_some(to + k * to_stride, square[k], n);
}
#endif

/* Columns begin ... begin + wide of a matrix of n rows, whose element (k, j) is at k * down + j * right, as a panel. */
static void pack_panel(const real *matrix, long n, long wide, long down, long right, real *panel) {
    if (wide < PANEL) memset(panel, 0, n * PANEL * sizeof(real));
    for (long first = 0; first < n; first += V) {    /* few rows at a time, as one of the two strides is long */
        const long high = n - first < V ? n - first : V;
        long i = 0;
#if defined(__AVX512F__)
        for (; down == 1 && high == V && i + V <= wide; i += V)
            transpose(matrix + first + i * right, right, panel + first * PANEL + i, PANEL, V);
#endif
        if (right == 1)
            for (long k = first; k < first + high; k++)
                memcpy(panel + k * PANEL, matrix + k * down, wide * sizeof(real));
        else
            for (; i < wide; i++)
                for (long k = first; k < first + high; k++) panel[k * PANEL + i] = matrix[k * down + i * right];
    }
}
SHARED void pack(const real *matrix, long n, long m, long down, long right, real *packed) {
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL)
        pack_panel(matrix + j * right, n, m - j < PANEL ? m - j : PANEL, down, right, packed);
}

/* The panel of column j of a matrix of heads. */
static void pack_panel_of_heads(const real *matrix, long j, long H, long d, int across, real *panel) {
    const struct rows of = rows_of_heads(j, H, d);
    memset(panel, 0, of.count * PANEL * sizeof(real));
    for (long i = 0; i < PANEL && j + i < H; i++) {
        const long head = (j + i) / d * d;
        real *to = panel + (head - of.begin) * PANEL + i;
        for (long k = 0; k < d; k++, to += PANEL)
            *to = across ? matrix[(head + k) * d + j + i - head] : matrix[(j + i) * d + k];
    }
}
SHARED void pack_heads(const real *matrix, long H, long d, int across, real *packed) {
    for (long j = 0; j < H; j += PANEL, packed += most_rows(H, d) * PANEL)
        pack_panel_of_heads(matrix, j, H, d, across, packed);
}
SHARED void unpack_heads(const real *packed, long H, long d, real *matrix) {
    for (long j = 0; j < H; j++) {
        const real *from = packed + j / PANEL * PANEL * most_rows(H, d) + j % PANEL;
        from += (j / d * d - rows_of_heads(j, H, d).begin) * PANEL;
        for (long k = 0; k < d; k++) matrix[j * d + k] = from[k * PANEL];
    }
}

SHARED void unpack(const real *packed, long n, long m, real *matrix) {
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL) {
        const long wide = m - j < PANEL ? m - j : PANEL;
        for (long first = 0; first < n; first += V) {
            const long high = n - first < V ? n - first : V;
            const real *from = packed + first * PANEL;
            real *to = matrix + j * n + first;
            long i = 0;
#if defined(__AVX512F__)
            for (; i + V <= wide; i += V) transpose(from + i, PANEL, to + i * n, n, high);
#endif
            for (; i < wide; i++)
                for (long k = 0; k < high; k++) to[i * n + k] = from[k * PANEL + i];
        }
    }
}

SHARED void mean_row(long count, const real *const *matrices, long N, long K, real *mean) {
    for (long k = 0; k < K;) {
        vec sum[4] = {0};
        const long wide = K - k >= 4 * V ? 4 * V : K - k < V ? K - k : V;
        for (long m = 0; m < count; m++) {
            const real *from = matrices[m] + k;
            if (wide == 4 * V)
                for (long j = 0; j < N; j++, from += K)
#pragma GCC unroll 4
                    for (int w = 0; w < 4; w++) sum[w] += load(from + w * V);
            else
                for (long j = 0; j < N; j++, from += K) sum[0] += load_within(from, 0, wide);
        }
        for (long w = 0; w < wide; w += V) store_part(mean + k, w, wide, sum[w / V] / (real)(count * N));
        k += wide;
    }
}
SHARED void less_row(const real *matrix, const real *row, long N, long K, real *to) {
    for (long j = 0; j < N; j++, matrix += K, to += K)
        for (long k = 0; k < K; k += V) store_part(to, k, K, load_within(matrix, k, K) - load_within(row, k, K));
}

/* A panel of n rows, whose columns from `wide` on are zeros, less a mean: of n elements, or of the columns that are
   there, where it lies across. */
static void centre_panel(const real *mean, int across, long n, long wide, real *panel) {
    mask there[WIDE];
    vec columns[WIDE];
    for (int w = 0; w < WIDE; w++) {
        columns[w] = across ? load_within(mean, w * V, wide) : broadcast(0);
        there[w] = lanes_below(wide - w * V);
    }
    for (long k = 0; k < n; k++, panel += PANEL) {
        const vec all = across ? broadcast(0) : broadcast(mean[k]);
#pragma GCC unroll 4
        for (int w = 0; w < WIDE; w++)
            store(panel + w * V, load(panel + w * V) - (vec)(there[w] & (mask)(all + columns[w])));
    }
}
SHARED void pack_centred(const real *matrix, const real *mean, int across, long n, long m, long down, long right,
                         real *packed) {
    pack(matrix, n, m, down, right, packed);
    for (long j = 0; j < m; j += PANEL, packed += round_up(n, V) * PANEL)
        centre_panel(across ? mean + j : mean, across, n, m - j < PANEL ? m - j : PANEL, packed);
}

/* `high` rows and `wide` vecs of a sum of products; the vecs may lie in several panels. Where there is a
   queue, a line is prefetched with every row of a matrix, or with every fourth. */
static inline __attribute__((always_inline)) void block(const int high, const int wide, const struct term *terms,
                                                        int count, long row, long rows, long column,
                                                        struct origin start, real *out, struct prefetch_queue *queue,
                                                        const int every) {
    const char *at = queue ? queue->at : NULL, *end = queue ? queue->end : NULL;
    const struct span *next = queue ? queue->next : NULL, *const last = queue ? queue->last : NULL;
    vec sum[ROWS][4 * WIDE];    /* by one number alone, GCC 12 would not keep them in registers to the end */
    const real *from = start.data + column / V * start.next + row * start.row;
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 16
        for (int w = 0; w < wide; w++) sum[i][w] = load(from + w * start.next + i * start.row);
    for (int m = 0; m < count; m++) {
        const long panel_size = PANEL * round_up(terms[m].K, V);
        const real *v = terms[m].tile + row * V, *panel = terms[m].packed + column / PANEL * panel_size + column % PANEL;
        for (long left = terms[m].K; left > 0; left -= V, v += rows * V)
            for (long k = 0; k < (left < V ? left : V); k++, panel += PANEL) {
                vec right[4 * WIDE];
                if (queue && k % every == 0) PREFETCH_NEXT(1);
#pragma GCC unroll 16
                for (int w = 0; w < wide; w++) {
                    right[w] = load(panel + w / WIDE * panel_size + w % WIDE * V);
                    KEEP_LOADED(right[w]);
                }
#pragma GCC unroll 8
                for (int i = 0; i < high; i++)
#pragma GCC unroll 16
                    for (int w = 0; w < wide; w++) sum[i][w] = add_product(sum[i][w], v[i * V + k], right[w]);
            }
    }
    out += column * rows + row * V;
#pragma GCC unroll 8
    for (int i = 0; i < high; i++)
#pragma GCC unroll 16
        for (int w = 0; w < wide; w++) store(out + w * rows * V + i * V, sum[i][w]);
    if (queue) queue->at = at, queue->end = end, queue->next = next;
}

/* Rows from ... to, which are a multiple of `high`, of a product. */
static inline __attribute__((always_inline)) void strip(const int high, const int wide, long from, long to, long rows,
                                                        long N, const struct term *terms, int count,
                                                        struct origin start, real *out, struct prefetch_queue *queue) {
    long j = 0;
#pragma GCC unroll 5
    for (int least = wide; least > 0; least = high == 1 ? least / 2 : least > 1)
        for (; N - j >= least * V; j += least * V)
            for (long r = from; r < to; r += high)
                if (high == ROWS && least == WIDE && queue->at < queue->end && queue->slow)
                    block(high, least, terms, count, r, rows, j, start, out, queue, 4);
                else if (high == ROWS && least == WIDE && queue->at < queue->end)
                    block(high, least, terms, count, r, rows, j, start, out, queue, 1);
                else block(high, least, terms, count, r, rows, j, start, out, NULL, 1);
}

/* Few rows take more columns at a time, so that there are sums enough under way to hide how long each addition takes. */
static int any_heads(const struct term *terms, int count) {
    for (int m = 0; m < count; m++)
        if (terms[m].d) return 1;
    return 0;
}
/* A term for the columns of the panel of column j alone. */
static struct term term_of_panel(const struct term *term, long rows, long j) {
    struct term one = *term;
    if (term->d) {
        const struct rows of = rows_of_heads(j, term->K, term->d);
        one.tile += of.begin * rows;
        one.packed += j * most_rows(term->K, term->d);
        one.K = of.count;
        one.d = 0;
    } else one.packed += j * round_up(term->K, V);
    return one;
}
SHARED void product(long n, long rows, long N, const struct term *terms, int count, struct origin start, real *out,
                    struct prefetch_queue *queue) {
    if (any_heads(terms, count)) {
        struct term one[count];
        for (long j = 0; j < N; j += PANEL) {
            for (int m = 0; m < count; m++) one[m] = term_of_panel(&terms[m], rows, j);
            const struct origin here = {start.data + j / V * start.next, start.row, start.next};
            product(n, rows, N - j < PANEL ? N - j : PANEL, one, count, here, out + j * rows, queue);
        }
        return;
    }
    long r = n / ROWS * ROWS;
    if (r) {
        for (int m = 0; m < count; m++) queue->passed += r / ROWS * (N / PANEL) * terms[m].K;
        strip(ROWS, WIDE, 0, r, rows, N, terms, count, start, out, queue);
    }
    if (ROWS > 4 && n - r >= 4) {
        strip(4, 2 * WIDE, r, r + 4, rows, N, terms, count, start, out, queue);
        r += 4;
    }
    if (ROWS > 2 && n - r >= 2) {
        strip(2, 2 * WIDE, r, r + 2, rows, N, terms, count, start, out, queue);
        r += 2;
    }
    if (r < n) strip(1, 4 * WIDE, r, r + 1, rows, N, terms, count, start, out, queue);
}

#if defined(__AVX512F__) && !BF16
static int special(const struct term *terms, int count) {
    for (int m = 0; m < count; m++)
        if (terms[m].d || terms[m].mean) return 1;
    return 0;
}
/* One row times matrices that are used just once: V rows of them at a time become V columns, which are multiplied by at
   once, in the order of all products. */
static void row_product(const struct term *terms, int count, long rows, long N, const real *start, real *out) {
    for (long j = 0; j < N; j += V, out += rows * V) {
        const long high = N - j < V ? N - j : V;
        vec sum = load(start + j);
        for (int m = 0; m < count; m++) {
            const long K = terms[m].K;
            const real *from = terms[m].matrix + j * K, *v = terms[m].tile;
            for (long k = 0; k < K; k += V, v += rows * V) {
                const long wide = K - k < V ? K - k : V;
                vec square[V];
#pragma GCC unroll 16
                for (int i = 0; i < V; i++)
                    square[i] = i < high ? load_within(from + i * K, k, K) : broadcast(0);
                transpose_square(square);
                if (wide == V)
#pragma GCC unroll 16
                    for (int i = 0; i < V; i++) sum += v[i] * square[i];
                else
                    for (int i = 0; i < wide; i++) sum += v[i] * square[i];
            }
        }
        store(out, sum);
    }
}
#endif

static void product_once(const struct way *way, long N, const struct term *terms, int count, struct origin start,
                         real *out) {
#if defined(__AVX512F__) && !BF16
    if (way->n == 1 && !special(terms, count)) {
        row_product(terms, count, way->rows, N, start.data, out);
        return;
    }
#endif
    struct term packed[count];
    for (long j = 0; j < N; j += PANEL) {
        const long wide = N - j < PANEL ? N - j : PANEL;
        real *panel = way->panels;
        for (int m = 0; m < count; m++) {
            const long K = terms[m].K;
            packed[m] = terms[m].d ? term_of_panel(&terms[m], way->rows, j) : terms[m];
            if (terms[m].d) pack_panel_of_heads(terms[m].matrix, j, K, terms[m].d, 0, panel);
            else pack_panel(terms[m].matrix + j * K, K, wide, 1, K, panel);
            if (terms[m].mean) centre_panel(terms[m].mean, 0, K, wide, panel);
            packed[m].packed = panel;
            panel += PANEL * round_up(K, V);
        }
        const struct origin here = {start.data + j / V * start.next, start.row, start.next};
        product(way->n, way->rows, round_up(wide, V), packed, count, here, out + j * way->rows,
                way->queue);
    }
}
SHARED void add_products(const struct way *way, long N, const struct term *terms, int count, int frames,
                         const real *start, const real *taken, real *out) {
    const struct origin row = {start, 0, V}, slot = {taken + way->slot * way->rows * V, V, way->ahead * way->rows * V};
    if (way->panels) product_once(way, N, terms, count, row, out);
    else if (way->ahead && frames)
        product(way->n, way->rows, round_up(N, V), terms + frames, count - frames, slot, out, way->queue);
    else product(way->n, way->rows, round_up(N, V), terms, count, row, out, way->queue);
}
SHARED void add_ahead(const struct way *way, long N, long n, const struct term *terms, int frames, const real *start,
                      real *taken) {
    product(n, way->ahead * way->rows, round_up(N, V), terms, frames, (struct origin){start, 0, V}, taken, way->queue);
}

/* ROWS rows and `wide` vecs of a packed matrix += the sum over steps and their rows of a' b. */
static inline __attribute__((always_inline)) void outer_block(const int wide, long count, const long *counts, long rows,
                                                              const real *a, long a_stride, const real *b,
                                                              long b_stride, real *out, struct prefetch_queue *queue) {
    const char *at = queue ? queue->at : NULL, *end = queue ? queue->end : NULL;
    const struct span *next = queue ? queue->next : NULL, *const last = queue ? queue->last : NULL;
    vec sum[ROWS][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) sum[i][w] = load(out + i * PANEL + w * V);
    for (long s = 0; s < count; s++) {
        const real *p = a + s * a_stride, *q = b + s * b_stride;
        for (long r = 0; r < counts[s]; r++, p += V, q += V) {
            if (queue) PREFETCH_NEXT(0);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
                for (int w = 0; w < wide; w++) sum[i][w] = add_product(sum[i][w], p[i], load(q + w * rows * V));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int w = 0; w < wide; w++) store(out + i * PANEL + w * V, sum[i][w]);
    if (queue) queue->at = at, queue->end = end, queue->next = next;
}

SHARED void outer(long count, const long *counts, long rows, long K, long N, struct steps a, struct steps b,
                  real *out, struct prefetch_queue *queue) {
    const long high = round_up(K, V);
    for (long j = 0; j < N; j += PANEL)
        for (long k = 0; k < K; k += ROWS) {
            const real *p = a.tiles + k / V * V * rows + k % V, *q = b.tiles + j * rows;
            real *place = out + j * high + k * PANEL;
            if (N - j >= PANEL && queue->at < queue->end)
                outer_block(WIDE, count, counts, rows, p, a.stride, q, b.stride, place, queue);
            else if (N - j >= PANEL)
                outer_block(WIDE, count, counts, rows, p, a.stride, q, b.stride, place, NULL);
            else
                for (long w = 0; w < N - j; w += V)
                    outer_block(1, count, counts, rows, p, a.stride, q + w * rows, b.stride, place + w, NULL);
        }
}
SHARED void outer_row(long rows, long K, long N, struct steps a, struct steps b, real *out) {
    for (long j = 0; j < N; j++, out += K) {
        const vec own = broadcast(b.tiles[j / V * V * rows + j % V]);
        for (long k = 0; k < K; k += V) store_part(out, k, K, own * load(a.tiles + k * rows));
    }
}
SHARED void outer_heads(long count, const long *counts, long rows, long K, long d, long N, struct steps a, struct steps b,
                        real *out, struct prefetch_queue *queue) {
    for (long j = 0; j < N; j += PANEL, out += most_rows(K, d) * PANEL) {
        const struct rows of = rows_of_heads(j, K, d);
        const struct steps left = {a.tiles + of.begin * rows, a.stride}, right = {b.tiles + j * rows, b.stride};
        outer(count, counts, rows, of.count, N - j < PANEL ? N - j : PANEL, left, right, out, queue);
    }
}
