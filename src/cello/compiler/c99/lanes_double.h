/* How many doubles are worked on at once. */
#define ASKED 0
#if !defined(LANES)
#if defined(__GNUC__) && defined(__AVX512F__) && ROWS >= 8
#define LANES 8
#elif defined(__GNUC__) && defined(__AVX2__)
#define LANES 4
#elif defined(__GNUC__) && (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__AARCH64EL__)))
#define LANES 2
#else
#define LANES 1
#endif
#endif

