/* How many floats are worked on at once.

   A compiler with vector types works on LANES numbers at once, any other on one. Every operation is the same for all
   lanes and none is fused, so that the results are the same bits wherever floats are those of IEEE 754. */

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#if !defined(LANES)
#if defined(__GNUC__) && defined(__AVX512F__) && ROWS >= 16
#define LANES 16
#elif defined(__GNUC__) && defined(__AVX2__) && ROWS >= 8
#define LANES 8
#elif defined(__GNUC__) && (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__AARCH64EL__)))
#define LANES 4
#else
#define LANES 1
#endif
#endif

/* An x86-64 program that may run anywhere asks its processor whether it can take ASKED numbers at once, 16 or 8, in
   products and in the steps of layers; compiled with -DPLAIN it does not. */
#if !defined(ASKED)
#if LANES == 4 && defined(__GNUC__) && defined(__x86_64__) && ROWS >= 8 && !defined(PLAIN)
#define ASKED (ROWS < 16 ? 8 : 16)
#else
#define ASKED 0
#endif
#endif
#if ASKED
#define AVX512F __attribute__((target("avx512f")))
#define AVX2 __attribute__((target("avx2")))
#else
#define AVX2
#endif

#if defined(__GNUC__)
#define LOCAL static inline __attribute__((unused))
#else
#define LOCAL static
#endif
#if LANES > 1 && defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#elif LANES > 1
#define UNROLLED _Pragma("GCC unroll 16")
#else
#define UNROLLED
#endif

/* v limited to [low, high], NaN where it is NaN. An x86 has two instructions for it, which take the second of two numbers
   where they cannot be compared. */
#if defined(__GNUC__) && defined(__SSE2__)
#define WITHIN_4(choose, v, low, high) __builtin_ia32_maxps(low, __builtin_ia32_minps(high, v))
#else
#define WITHIN_4 WITHIN_1
#endif
#if ASKED || (defined(__GNUC__) && defined(__AVX__))
#define WITHIN_8(choose, v, low, high) __builtin_ia32_maxps256(low, __builtin_ia32_minps256(high, v))
#else
#define WITHIN_8 WITHIN_1
#endif
#define WITHIN_16 WITHIN_1
#define WITHIN_1(choose, v, low, high) choose((v) < (low), (low), choose((v) > (high), (high), (v)))
#define WITHIN_LANES(lanes, choose, v, low, high) WITHIN_##lanes(choose, v, low, high)
#define WITHIN(lanes, choose, v, low, high) WITHIN_LANES(lanes, choose, v, low, high)
