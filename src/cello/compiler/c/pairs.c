/* Vecs of numbers become vecs of pairs. */

SHARED void pair_columns(long n, long rows, long K, const real *tile, real *pairs) {
    for (long j = 0; j < K; j += 2 * V, tile += 2 * rows * V, pairs += rows * V) {
        const long left = K - j;
        for (long r = 0; r < n; r++) {
            const real *from = tile + r * V;
            const vec first = left >= V ? load(from) : load_some(from, left);
            vec second = broadcast(0);
            if (left >= 2 * V) second = load(from + rows * V);
            else if (left > V) second = load_some(from + rows * V, left - V);
            store(pairs + r * V, neighbours(first, second));
        }
    }
}

SHARED void pair_rows(long count, const long *counts, long rows, long K, struct steps steps, real *pairs) {
    for (long j = 0; j < K; j += V) {
        vec first = broadcast(0);
        int waiting = 0;
        for (long s = 0; s < count; s++) {
            const real *from = steps.tiles + s * steps.stride + j * rows;
            long r = 0;
            if (waiting && counts[s]) {
                store(pairs, interleaved(first, load(from)));
                pairs += V, waiting = 0, r = 1;
            }
            for (; r + 2 <= counts[s]; r += 2, pairs += V)
                store(pairs, interleaved(load(from + r * V), load(from + r * V + V)));
            if (r < counts[s]) first = load(from + r * V), waiting = 1;
        }
        if (waiting) {
            store(pairs, interleaved(first, broadcast(0)));
            pairs += V;
        }
    }
}

SHARED long row_pairs(long count, const long *counts) {
    long total = 0;
    for (long s = 0; s < count; s++) total += counts[s];
    return pairs_of(total);
}

/* A packed matrix as pairs of rows, in the same memory. */
static void pair_packed(long n, long m, real *packed) {
    const real *from = packed;
    for (long j = 0; j < m; j += PANEL, from += round_up(n, V) * PANEL, packed += round_up(pairs_of(n), V) * PANEL)
        for (long k = 0; k < n; k += 2)
            for (long i = 0; i < PANEL; i += V) {
                const vec second = k + 1 < n ? load(from + (k + 1) * PANEL + i) : broadcast(0);
                store(packed + k / 2 * PANEL + i, interleaved(load(from + k * PANEL + i), second));
            }
}
SHARED void pack_pairs(const real *matrix, long n, long m, long down, long right, real *packed) {
    pack(matrix, n, m, down, right, packed);
    pair_packed(n, m, packed);
}
SHARED void pack_centred_pairs(const real *matrix, const real *mean, int across, long n, long m, long down, long right,
                               real *packed) {
    pack_centred(matrix, mean, across, n, m, down, right, packed);
    pair_packed(n, m, packed);
}
