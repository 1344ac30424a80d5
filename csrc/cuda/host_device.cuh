// The math that host and device share (csrc/common), for the device.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "../common/arguments.h"

#define FUSEDNORM_HD __host__ __device__ __forceinline__

namespace fusednorm {

FUSEDNORM_HD float vexp(float x) { return ::expf(x); }
FUSEDNORM_HD double vexp(double x) { return ::exp(x); }
FUSEDNORM_HD float verfc(float x) { return ::erfcf(x); }
FUSEDNORM_HD double verfc(double x) { return ::erfc(x); }

#include "../common/activation.h"

}  // namespace fusednorm
