/* The cross entropy of scores (B, C) against one or two targets of each clip, its derivative, and how many clips have
   their highest score at the first target. With smoothing e a target is 1 - e + e / C at its label and e / C elsewhere.
   The second targets count with 1 - share; there are none where share is 1. Returns 1 where a target is no label. */
int cross_entropy(const real *scores, const int64_t *targets, const int64_t *others, double share, double smoothing,
                   real *slope, double *found, long B, long C) {
    double loss = 0;
    long right = 0;
    for (long clip = 0; clip < B; clip++, scores += C, slope += C) {
        if (targets[clip] < 0 || targets[clip] >= C || (share < 1 && (others[clip] < 0 || others[clip] >= C))) return 1;
        long best = 0;
        double total = 0, sum = 0;
        for (long k = 1; k < C; k++)
            if (scores[k] > scores[best]) best = k;
        for (long k = 0; k < C; k++) slope[k] = scores[k] - scores[best];
        for (long k = 0; k < C; k++) sum += slope[k];
        const double first = slope[targets[clip]], second = share < 1 ? slope[others[clip]] : 0;
        long k = 0;
        for (; k + V <= C; k += V) store(slope + k, exponential(load(slope + k)));
        if (k < C) store_some(slope + k, exponential(load_some(slope + k, C - k)), C - k);
        for (k = 0; k < C; k++) total += slope[k];
        loss += log(total) - (1 - smoothing) * (share * first + (1 - share) * second) - smoothing / C * sum;
        right += best == targets[clip];
        for (k = 0; k < C; k++) slope[k] = (slope[k] / total - smoothing / C) / B;
        slope[targets[clip]] -= (1 - smoothing) * share / B;
        if (share < 1) slope[others[clip]] -= (1 - smoothing) * (1 - share) / B;
    }
    found[0] = loss / B;
    found[1] = right;
    return 0;
}
