/* Sums and maxima over the lanes of each row. */

SHARED void begin_lanes(long n, real value, real *lanes) {
    for (long r = 0; r < n; r++) store(lanes + r * V, broadcast(value));
}

/* Each lane and the one that stands `half` lanes from it, in the other half, change places. */
static inline vec across(vec v, long half) {
#if defined(__AVX512F__)
    return pick(v, ALL_LANES ^ (integer)half, v);
#else
    vec found;
    for (long k = 0; k < V; k++) found[k] = v[k ^ half];
    return found;
#endif
}
SHARED void total_of_lanes(long n, real *lanes) {
    for (long r = 0; r < n; r++) {
        vec v = load(lanes + r * V);
#pragma GCC unroll 4
        for (long half = V / 2; half; half /= 2) v += across(v, half);
        store(lanes + r * V, v);
    }
}

SHARED void largest_of_lanes(long n, real *lanes) {
    for (long r = 0; r < n; r++) {
        vec v = load(lanes + r * V);
#pragma GCC unroll 4
        for (long half = V / 2; half; half /= 2) v = maximum(v, across(v, half));
        store(lanes + r * V, v);
    }
}
