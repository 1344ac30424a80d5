// The CPU kernels for any processor: SSE2 on x86-64, NEON on Arm.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define FUSEDNORM_VECTOR_BYTES 16
#define FUSEDNORM_ISA baseline
#define FUSEDNORM_TABLE baseline_kernels
#include "kernel_table.inc"
