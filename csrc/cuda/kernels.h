// The CUDA kernels as the host starts them.
#pragma once

#include "../common/arguments.h"
#include "launch.h"
#include "plan.h"

namespace fusednorm {

void plane_moments(const MomentsArgs& k, const Plan& plan, const Partials& partials, const Stream& s);
void plane_affine(const AffineArgs& k, const Stream& s);
void plane_affine_reduce(const AffineArgs& k, const Plan& plan, const Partials& partials, const Stream& s);
void plane_affine_grad(const AffineArgs& k, const Stream& s);

}  // namespace fusednorm
