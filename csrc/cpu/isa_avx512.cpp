// The CPU kernels for AVX512.
#if defined(__x86_64__)
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <immintrin.h>

#include "kernels.h"

// After the standard headers: their inline functions must stay runnable everywhere.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")

#define FUSEDNORM_VECTOR_BYTES 64
#define FUSEDNORM_ISA avx512
#define FUSEDNORM_TABLE avx512_kernels
#include "kernel_table.inc"
#endif
