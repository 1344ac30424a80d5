// The CPU kernels for AVX2.
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
#pragma GCC target("avx2,fma,f16c")

#define FUSEDNORM_VECTOR_BYTES 32
#define FUSEDNORM_ISA avx2
#define FUSEDNORM_TABLE avx2_kernels
#include "kernel_table.inc"
#endif
