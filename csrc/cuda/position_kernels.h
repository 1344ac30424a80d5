// The kernels of docs/positions.md as the host starts them.
#pragma once

#include "launch.h"
#include "position_pass.h"

namespace fusednorm {

void position_reduce(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s);
void plane_pool(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s);
void position_moments(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s);
void position_affine(const PositionPass& k, const Plan& plan, const Stream& s);
void position_affine_reduce(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s);
void position_affine_spread(const PositionPass& k, const Plan& plan, const Parts& parts, const Stream& s);
void position_affine_grad(const PositionPass& k, const Plan& plan, const Stream& s);

// Parts -> `out`: sums, and position_moments' means and variances.
void merge_parts(const Parts& parts, bool f64, const Stream& s);
void merge_channels(const Parts& parts, bool f64, const Stream& s);

}  // namespace fusednorm
