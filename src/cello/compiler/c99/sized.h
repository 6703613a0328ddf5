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
