
/* Where one push brings several steps, the products with their frames are computed for so many steps at once, which is
   faster where the weights do not fit the first cache. The scores are the same bits. Each step takes at most
   BYTES of the struct; 1 takes the least. Define another value as above. */
#ifndef MODEL_AHEAD
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__AARCH64EL__))
#define MODEL_AHEAD 4
#else
#define MODEL_AHEAD 1
#endif
#endif
