/* Numbers in bfloat16, which has 7 bits of mantissa, two in the place of one `real`: a pair, its first number in the lower
   half. They are rounded to nearest even; sums of their products are float32. */

#if defined(__AVX512BF16__) && !defined(CELLO_EMULATED_BF16)
#include <immintrin.h>

int has_bf16(void) { return 1; }

/* sum + the two products of a pair, which all lanes share, and each lane's pair */
static inline vec add_product(vec sum, real pair, vec pairs) {
    const __m512 all = _mm512_set1_ps(pair);
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all, (__m512bh)pairs);
}
/* Two vecs of one row, of which the second follows the first, as pairs of neighbours. */
static inline vec neighbours(vec first, vec second) {
    return (vec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}
/* Two rows as pairs of the elements in the same lane. */
static inline vec interleaved(vec first, vec second) {
    static const uint16_t lanes[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (vec)_mm512_permutexvar_epi16(_mm512_loadu_si512(lanes), (__m512i)neighbours(first, second));
}
#else
/* Without the instruction nobody is served: this is for tests, which ask for it. */
int has_bf16(void) {
#if defined(CELLO_EMULATED_BF16)
    return 1;
#else
    return 0;
#endif
}

static inline mask rounded_to_bf16(vec v) {
    const mask bits = (mask)v, nearest = bits + 0x7fff + (bits >> 16 & 1);
    return (mask)select_vec(v == v, (vec)nearest, (vec)(bits | 0x400000)) & (int32_t)0xffff0000;
}
static inline vec lower(vec pairs) { return (vec)((mask)pairs << 16); }
static inline vec upper(vec pairs) { return (vec)((mask)pairs & (int32_t)0xffff0000); }
static inline vec add_product(vec sum, real pair, vec pairs) {
    int32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    const vec all = (vec)((mask){0} + bits);
    return sum + upper(all) * upper(pairs) + lower(all) * lower(pairs);
}
static inline vec interleaved(vec first, vec second) {
    return (vec)((rounded_to_bf16(first) >> 16 & 0xffff) | rounded_to_bf16(second));
}
static inline vec neighbours(vec first, vec second) {
    vec even, odd;
    for (int k = 0; k < V; k++) {
        even[k] = 2 * k < V ? first[2 * k % V] : second[2 * k % V];
        odd[k] = 2 * k < V ? first[2 * k % V + 1] : second[2 * k % V + 1];
    }
    return interleaved(even, odd);
}
#endif
