// The head's scalar formulas, which host and device share (csrc/common).
#pragma once

#include "host_device.cuh"

namespace fusednorm {

FUSEDNORM_HD float head_exp(float x) { return expf(x); }
FUSEDNORM_HD double head_exp(double x) { return exp(x); }
FUSEDNORM_HD float head_sqrt(float x) { return sqrtf(x); }
FUSEDNORM_HD double head_sqrt(double x) { return sqrt(x); }

#include "../common/attention.h"
#include "../common/restrict.h"
#include "../common/head_math.h"
#include "../common/plane_statistics.h"
#include "../common/switchable.h"

}  // namespace fusednorm
