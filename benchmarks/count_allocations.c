/* Counts what a process has allocated: put before the C library's own functions with LD_PRELOAD (glibc only).

   Every heap allocation of the process is seen, whoever makes it: torch's tensors, a kernel's own room, what a matrix
   library puts aside. Sizes are those the allocator hands out, at most a few per cent above those asked for. */

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static atomic_long live, most;

static void *counted(void *memory) {
    long now = atomic_fetch_add(&live, (long)malloc_usable_size(memory)) + (long)malloc_usable_size(memory);
    long before = atomic_load(&most);
    while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {}
    return memory;
}

void free(void *memory) {
    atomic_fetch_sub(&live, (long)malloc_usable_size(memory));
    __libc_free(memory);
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }

void *realloc(void *memory, size_t size) {
    long before = (long)malloc_usable_size(memory);
    void *moved = __libc_realloc(memory, size);
    if (moved || !size) atomic_fetch_sub(&live, before);
    return moved ? counted(moved) : moved;
}

void *memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    void *found = memalign(alignment, size);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}

/* From here on the most is that of what follows; returns the bytes live now. */
long count_from_now(void) {
    long now = atomic_load(&live);
    atomic_store(&most, now);
    return now;
}

long most_counted(void) { return atomic_load(&most); }
