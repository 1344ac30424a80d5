// The kernels of docs/positions.md as operators. Sums that were taken in parts are merged by a second, small kernel.
#include "../position_operators.h"

#include "device.h"
#include "position_kernels.h"

namespace fusednorm {

namespace {

bool is_double(const PositionPass& k) { return k.shape.type == Type::f64; }

}  // namespace

// Sums of every plane, in segments.
Parts Cuda::parts_of_planes(const PositionPass& k, const Plan& plan, int sums) {
  Parts p;
  p.parts = plan.walk.segments, p.entries = k.shape.N * k.shape.C, p.sums = sums;
  if (p.parts > 1) p.data = static_cast<double*>(memory(size_t(p.parts * p.entries * sums) * sizeof(double)));
  return p;
}

// Sums at every position, in stripes or segments of channels.
Parts Cuda::parts_of_channels(const PositionPass& k, const Plan& plan, int sums, void* first, void* second) {
  const Walk& w = plan.walk;
  Parts p;
  p.parts = k.shape.channels_last ? w.stripes : w.segments;
  p.entries = k.shape.N * k.shape.positions(), p.sums = sums;
  const int64_t values = plan.vectorized ? 16 / element_bytes(k.shape.type) : 1;
  p.width = k.shape.channels_last ? w.columns * values : w.length, p.channels = k.shape.C;
  p.out[0] = first, p.out[1] = second;
  if (p.parts > 1) p.data = static_cast<double*>(memory(size_t(p.parts * p.entries * p.sums) * sizeof(double)));
  return p;
}

void Cuda::position_reduce(const PositionReduceArgs& args) {
  const PositionPass k = reduce_pass(args);
  const Plan plan = plan_over_channels(k);
  const Parts parts = parts_of_channels(k, plan, 1, args.t, nullptr);
  fusednorm::position_reduce(k, plan, parts, stream_);
  if (parts.parts > 1) merge_parts(parts, is_double(k), stream_);
}

void Cuda::plane_pool(const PlanePoolArgs& args) {
  const PositionPass k = pool_pass(args);
  const Plan plan = plan_over_positions(k, Pass::reducing);
  Parts parts = parts_of_planes(k, plan, 2);
  parts.out[0] = args.pooled.data, parts.out[1] = args.slope.data;
  fusednorm::plane_pool(k, plan, parts, stream_);
  if (parts.parts > 1) merge_parts(parts, is_double(k), stream_);
}

void Cuda::position_moments(const PositionMomentsArgs& args) {
  const PositionPass k = moments_pass(args);
  const Plan plan = plan_over_channels(k);
  const Parts parts = parts_of_channels(k, plan, 2, args.mean, args.var);
  fusednorm::position_moments(k, plan, parts, stream_);
  if (parts.parts > 1) merge_channels(parts, is_double(k), stream_);
}

void Cuda::position_affine(const PositionAffineArgs& args) {
  const PositionPass k = forward_pass(args);
  fusednorm::position_affine(k, plan_over_positions(k, Pass::writing), stream_);
}

void Cuda::position_affine_reduce(const PositionAffineArgs& args) {
  const PositionPass k = backward_pass(args);
  const Plan plan = plan_over_positions(k, Pass::reducing);
  Parts parts = parts_of_planes(k, plan, kMostSums);
  for (int i = 0; i < kMostSums; ++i)
    parts.out[i] = static_cast<char*>(args.sums) + i * parts.entries * (is_double(k) ? 8 : 4);
  fusednorm::position_affine_reduce(k, plan, parts, stream_);
  if (parts.parts > 1) merge_parts(parts, is_double(k), stream_);
}

void Cuda::position_affine_spread(const PositionAffineArgs& args) {
  const PositionPass k = spread_pass(args);
  const Plan plan = plan_over_channels(k);
  Parts parts = parts_of_channels(k, plan, 2, args.du, args.dt);
  fusednorm::position_affine_spread(k, plan, parts, stream_);
  if (parts.parts > 1) merge_parts(parts, is_double(k), stream_);
}

void Cuda::position_affine_grad(const PositionAffineArgs& args) {
  const PositionPass k = grad_pass(args);
  fusednorm::position_affine_grad(k, plan_over_positions(k, Pass::writing), stream_);
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) {
  using Of = PositionOperators<Cuda>;
  m.impl("position_reduce.cuda", TORCH_BOX(&Of::position_reduce));
  m.impl("plane_pool.cuda", TORCH_BOX(&Of::plane_pool));
  m.impl("position_moments.cuda", TORCH_BOX(&Of::position_moments));
  m.impl("position_affine.cuda", TORCH_BOX(&Of::position_affine));
  m.impl("position_affine_reduce.cuda", TORCH_BOX(&Of::position_affine_reduce));
  m.impl("position_affine_spread.cuda", TORCH_BOX(&Of::position_affine_spread));
  m.impl("position_affine_grad.cuda", TORCH_BOX(&Of::position_affine_grad));
}

}  // namespace fusednorm
