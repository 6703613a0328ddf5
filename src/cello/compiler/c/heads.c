/* Matrices of heads into tiles and back, and sums of their columns. */

SHARED void to_lines(long n, long rows, long N, const real *tile, real *lines) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(lines + r * round_up(N, V) + j, load(tile + j * rows + r * V));
}

SHARED void from_lines(long n, long rows, long N, const real *lines, real *tile) {
    for (long r = 0; r < n; r++)
        for (long j = 0; j < N; j += V) store(tile + j * rows + r * V, load(lines + r * round_up(N, V) + j));
}

SHARED void zero_lines(long n, long N, real *lines) {
    memset(lines, 0, n * round_up(N, V) * sizeof(real));
}

SHARED void add_columns(const real *columns, long d, mask from, long one, long N, real *line) {
    if (N > V) N = V;
    for (long k = 0; k < d; k += V) {
        const long wide = d - k < V ? d - k : V;
        real square[V * V];
#if defined(__AVX512F__)
        transpose(columns + k * V, V, square, V, V);
#else
        for (long u = 0; u < N; u++)
            for (long m = 0; m < wide; m++) square[u * V + m] = columns[(k + m) * V + u];
#endif
        for (long u = 0; u < N;) {
            real *to = line + from[u] + k;
            vec sum = load_some(to, wide);
            do sum += load_some(square + u * V, wide);
            while (++u < N && from[u] == from[u - 1]);
            store_some(to, sum, wide);
        }
    }
}

SHARED void take_units(const real *tile, long rows, long r, long j, long H, long d, real *units) {
    real *line = units + round_up(d, V) * V;
    const long there = (H - j < V ? H - j : V) * d;
    tile += j * d * rows + r * V;
#if defined(__AVX512F__)
    if (d % V == 0 && there == V * d) {
        for (long k = 0; k < d; k += V) {
            /* The next row's vecs: a row's own lie far apart, and no processor foresees them. */
            for (long u = 0; u < V; u++) __builtin_prefetch(tile + (u * d + k) * rows + V, 0, 2);
            transpose(tile + k * rows, d * rows, units + k * V, V, V);
        }
        return;
    }
#endif
    for (long at = 0; at < there; at += V) store(line + at, load(tile + at * rows));
    for (long at = there; at < V * d; at++) line[at] = 0;
    for (long k = 0; k < d; k += V) {
#if defined(__AVX512F__)
        transpose(line + k, d, units + k * V, V, V);
#else
        for (long m = k; m < k + V && m < d; m++)
            for (long u = 0; u < V; u++) units[m * V + u] = line[u * d + m];
#endif
    }
}

SHARED void give_units(real *units, long rows, long r, long j, long H, long d, real *tile) {
    real *line = units + round_up(d, V) * V;
    const long there = (H - j < V ? H - j : V) * d;
#if defined(__AVX512F__)
    if (d % V == 0 && there == V * d) {
        tile += j * d * rows + r * V;
        for (long k = 0; k < d; k += V) transpose(units + k * V, V, tile + k * rows, d * rows, V);
        return;
    }
#endif
    for (long k = 0; k < d; k += V) {
        const long wide = d - k < V ? d - k : V;
#if defined(__AVX512F__)
        transpose(units + k * V, V, line + k, d, wide);
#else
        for (long u = 0; u < V; u++)
            for (long m = k; m < k + wide; m++) line[u * d + m] = units[m * V + u];
#endif
    }
    for (long at = there; at < round_up(there, V); at++) line[at] = 0;
    tile += j * d * rows + r * V;
    for (long at = 0; at < there; at += V) store(tile + at * rows, load(line + at));
}

SHARED void load_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                       real *tile) {
    for (long r = begin; r < end; r++) {
        const real *from = tensor.data ? row_of(c, &tensor, r, t) : NULL;
        for (long j = 0; j < H; j += V) {
            real *to = tile + (j * c->rows + r * V) * d;
            for (long k = 0; k < d; k++)
                for (long u = 0; u < V; u++) to[k * V + u] = from && j + u < H ? from[(j + u) * d + k] : 0;
        }
    }
}

SHARED void store_heads(const struct clips *c, struct view tensor, long t, long begin, long end, long H, long d,
                        const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long u = 0; u < H; u++)
            for (long k = 0; k < d; k++) to[u * d + k] = tile[((u / V * c->rows + r) * d + k) * V + u % V];
    }
}

SHARED void fill_heads(real *row, const real *from, long H, long d) {
    for (long u = 0; u < round_up(H, V); u++)
        for (long k = 0; k < d; k++) row[(u / V * d + k) * V + u % V] = u < H ? from[u * d + k] : 0;
}

SHARED void unfill_heads(real *to, const real *row, long H, long d) {
    for (long u = 0; u < H; u++)
        for (long k = 0; k < d; k++) to[u * d + k] = row[(u / V * d + k) * V + u % V];
}

/* Where unit u of row r of a matrix of N columns begins; those of the same vec follow it. */
static const real *unit_at(struct of_heads m, long r, long u, long N) {
    return m.tile + (u / V * m.rows + (m.same ? 0 : r)) * N * V + u % V;
}

/* Columns j ... j + wide of d units from u on, of a matrix of N, one unit after the other. */
static void units_as_rows(struct of_heads m, long r, long u, long d, long N, long j, long wide, real *to, long stride) {
    for (long k = 0; k < d;) {
        const real *from = unit_at(m, r, u + k, N);
        const long high = V - (u + k) % V < d - k ? V - (u + k) % V : d - k;
        long c = 0;
#if defined(__AVX512F__)
        for (; high == V && j + c + V <= N && c < wide; c += V)
            transpose(from + (j + c) * V, V, to + k * stride + c, stride, wide - c < V ? wide - c : V);
#endif
        for (; c < wide; c++)
            for (long i = 0; i < high; i++) to[(k + i) * stride + c] = from[(j + c) * V + i];
        k += high;
    }
}

/* All N columns of d units from u on, one column after the other. */
static void units_as_columns(struct of_heads m, long r, long u, long d, long N, real *to, long stride) {
    for (long k = 0; k < d;) {
        const real *from = unit_at(m, r, u + k, N);
        const long high = V - (u + k) % V < d - k ? V - (u + k) % V : d - k;
        for (long j = 0; j < N; j++)
            if (high == V) store(to + j * stride + k, load(from + j * V));
            else memcpy(to + j * stride + k, from + j * V, high * sizeof(real));
        k += high;
    }
}

/* Sums over P of vecs times numbers: Q vecs. */
static void multiply_block(const real *left, const real *right, long P, long Q, real *to) {
    long q = 0;
    for (; q + 8 <= Q; q += 8) {
        vec sum[8];
#pragma GCC unroll 8
        for (long k = 0; k < 8; k++) sum[k] = broadcast(0);
        for (long p = 0; p < P; p++) {
            const vec value = load(left + p * V);
#pragma GCC unroll 8
            for (long k = 0; k < 8; k++) sum[k] += value * right[p * Q + q + k];
        }
#pragma GCC unroll 8
        for (long k = 0; k < 8; k++) store(to + (q + k) * V, sum[k]);
    }
    for (; q < Q; q++) {
        vec sum = broadcast(0);
        for (long p = 0; p < P; p++) sum += load(left + p * V) * right[p * Q + q];
        store(to + q * V, sum);
    }
}

SHARED void multiply_heads(enum product_of_heads which, long n, long rows, long H, long d, long N, struct of_heads a,
                           struct of_heads b, real *to, real *memory) {
    const long P = which == MULTIPLY_TRANSPOSED ? N : d, Q = which == MULTIPLY_TRANSPOSED ? d : N;
    const int whole = d % V == 0 || d == H;    /* no vec has units of two heads */
    real *left = memory, *found = left + P * V, *right = found + Q * V;
    for (long r = 0; r < n; r++)
        for (long head = 0; head < H; head += d) {
            if (which == MULTIPLY_TRANSPOSED) units_as_columns(b, r, head, d, N, right, Q);
            else units_as_rows(b, r, head, d, N, 0, N, right, Q);
            for (long i = 0; i < d; i += V) {
                const long wide = d - i < V ? d - i : V;
                const int own = which == TRANSPOSED_MULTIPLY || !whole;
                if (own && wide < V) memset(left, 0, P * V * sizeof(real));
                if (which == TRANSPOSED_MULTIPLY) units_as_rows(a, r, head, d, d, i, wide, left, V);
                else if (!whole) units_as_columns(a, r, head + i, wide, P, left, V);
                real *at = to + ((head + i) / V * rows + r) * Q * V;
                multiply_block(own ? left : unit_at(a, r, head + i, P), right, P, Q, whole ? at : found);
                for (long k = 0; k < wide && !whole; k++) {
                    const long u = head + i + k;
                    for (long q = 0; q < Q; q++) to[((u / V * rows + r) * Q + q) * V + u % V] = found[q * V + k];
                }
            }
        }
}
