/* Rows of tensors into tiles and back. */

long vec_length(void) { return V; }

SHARED void load_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, real *tile) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = begin; r < end; r++) {
        real *to = tile + r * V;
        long j = 0;
        if (!tensor.data) {
            for (; j < N; j += V, to += c->rows * V) store(to, broadcast(0));
            continue;
        }
        const real *from = row_of(c, &tensor, r, t);
        if (soon) PREFETCH(from, soon, N, 0);
        for (; j + V <= N; j += V, to += c->rows * V) store(to, load(from + j));
        if (j < N) store(to, load_some(from + j, N - j));
    }
}

SHARED void store_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N,
                       const real *tile) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        const real *from = tile + r * V;
        if (soon) PREFETCH(to, soon, N, 1);
        long j = 0;
        for (; j + V <= N; j += V, from += c->rows * V) store(to + j, load(from));
        if (j < N) store_some(to + j, load(from), N - j);
    }
}

SHARED void find_rows(const struct clips *c, struct view tensor, long t, long n, long N, const real *none,
                      const real **rows) {
    const long soon = c->reverse == c->backward ? tensor.frame_stride : -tensor.frame_stride;
    for (long r = 0; r < n; r++) {
        rows[r] = tensor.data ? row_of(c, &tensor, r, t) : none;
        if (tensor.data) PREFETCH(rows[r], soon, N, 0);
    }
}

SHARED void clear_prefetches(struct prefetch_queue *queue) {
    queue->at = queue->end = NULL;
    queue->next = queue->last = queue->spans;
    queue->left = MOST_BYTES;
    queue->passed_before = queue->passed;
    queue->passed = 0;
}
static void queue_range(struct prefetch_queue *queue, const real *from, long N) {
    const char *begin = (const char *)((uintptr_t)from & -(uintptr_t)LINE), *end = (const char *)(from + N);
    if (end - begin > queue->left) end = begin + queue->left;
    if (!N || begin >= end || queue->last == queue->spans + MOST_SPANS) return;
    queue->left -= end - begin;
    if (queue->at < queue->end) *queue->last++ = (struct span){begin, end};
    else queue->at = begin, queue->end = end;
}
SHARED void queue_step(struct prefetch_queue *queue, const struct clips *c, const struct memory *memory, long t, long n) {
    for (int k = 0; k < 2; k++)
        for (long r = 0; r < n && memory->tensors[k].data; r++)
            queue_range(queue, row_of(c, &memory->tensors[k], r, t), memory->N[k]);
    for (int k = 0; k < 2; k++)
        if (memory->saved[k]) queue_range(queue, memory->saved[k] + t * memory->size[k], memory->size[k]);
    queue->slow = queue->passed_before >= 3 * (MOST_BYTES - queue->left) / LINE;
}

SHARED void zero_rows(const struct clips *c, struct view tensor, long t, long n, long N) {
    for (long r = 0; r < n; r++) memset(row_of(c, &tensor, r, t), 0, N * sizeof(real));
}

SHARED void add_tile(const struct clips *c, struct view tensor, long t, long begin, long end, long N, const real *tile) {
    for (long r = begin; r < end; r++) {
        real *to = row_of(c, &tensor, r, t);
        for (long j = 0; j < N; j++) to[j] += tile[j / V * V * c->rows + r * V + j % V];
    }
}

SHARED void load_ahead(const struct clips *c, struct view tensor, long t, long ahead, long n, long N, real *tile) {
    struct clips all = *c;
    all.rows = ahead * c->rows;
    for (long s = 0; s < ahead && t + s < c->steps; s++, tile += c->rows * V) {
        n = running(c, t + s, n);
        load_tile(&all, tensor, t + s, 0, n, N, tile);
    }
}

SHARED void zero_padding(const struct clips *c, struct view tensor, long T, long N) {
    for (long r = 0; r < c->count; r++)
        for (long t = c->length[r]; t < T; t++)
            memset(tensor.data + c->place[r] * tensor.clip_stride + t * tensor.frame_stride, 0, N * sizeof(real));
}

SHARED void fill(real *row, const real *from, long N) {
    for (long j = 0; j < round_up(N, V); j++) row[j] = j < N ? from[j] : 0;
}
