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
