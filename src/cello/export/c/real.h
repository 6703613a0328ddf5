/* Frames are computed with doubles, or with floats where the processor has no unit for doubles: a band 70 dB below the
   loudest is off by up to 5e-5 then. Define it to choose, the same wherever this file is included. */
#ifndef MODEL_DOUBLE
#if (defined(__arm__) && !(defined(__ARM_FP) && __ARM_FP & 8)) || defined(__XTENSA__) || \
    (defined(__riscv) && !defined(__riscv_flen)) || (defined(__riscv_flen) && __riscv_flen < 64)
#define MODEL_DOUBLE 0
#else
#define MODEL_DOUBLE 1
#endif
#endif
#if MODEL_DOUBLE
typedef double model_real;
#else
typedef float model_real;
#endif

