// The kernels of docs/positions.md as operators. Sums that were taken in parts are merged by a second, small kernel.
#include "../position_operators.h"

#include "device.h"
#include "position_kernels.h"

namespace fusednorm {

namespace {

bool is_double(const PositionPass& k) { return k.shape.type == Type::f64; }

void check_dense(const PositionPass& k) {
  for (const Operand& map : {k.maps[0], k.maps[1], k.maps[2], k.out})
    STD_TORCH_CHECK(map.data == nullptr || is_dense(map, k.shape),
                    "fusednorm: x and residual: expected samples without gaps, in the same order");
}

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

void Cuda::position_moments_pool(const PositionMomentsPoolArgs& args) {
  PositionMomentsArgs moments{};
  moments.shape = args.shape, moments.x = args.x, moments.e.center = args.center;
  PositionKept k{};
  k.kept = kept_in(args.shape, args.blocks, stream_), k.pass = moments_pass(moments), k.statistic = args.statistic;
  check_dense(k.pass);
  k.mean = static_cast<float*>(args.mean), k.var = static_cast<float*>(args.var);
  k.cov = static_cast<float*>(args.cov.data);
  k.exchange = exchange(k.kept, 2);
  fusednorm::position_moments_pool(k, stream_);
}

void Cuda::position_moments_affine(const PositionAffineArgs& args) {
  PositionKept k{};
  k.kept = kept_in(args.shape, args.blocks, stream_), k.pass = forward_pass(args), k.statistic = args.statistic;
  check_dense(k.pass);
  k.mean = static_cast<float*>(args.mean), k.var = static_cast<float*>(args.var);
  k.exchange = exchange(k.kept, 2);
  fusednorm::position_moments_affine(k, stream_);
}

void Cuda::position_affine_spread_reduce(const PositionAffineArgs& args) {
  PositionKept k{};
  k.kept = kept_in(args.shape, args.blocks, stream_), k.pass = backward_pass(args);
  k.dy_dense = is_dense(k.pass.maps[0], args.shape);
  k.pass.rows[kOffset] = args.du_offset, k.pass.rows[kSlope] = args.du_slope;
  PositionPass others = k.pass;
  others.maps[0] = {};
  check_dense(others);
  k.du = static_cast<float*>(args.du), k.sums = static_cast<float*>(args.sums);
  k.exchange = exchange(k.kept, 1);
  fusednorm::position_affine_spread_reduce(k, stream_);
}

// For so many values of each position from each block; null where a sample has one block.
double* Cuda::exchange(const Kept& k, int values) {
  if (k.blocks == 1) return nullptr;
  return static_cast<double*>(memory(size_t(k.shape.N * k.blocks * k.shape.positions() * values) * sizeof(double)));
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) {
  using Of = PositionOperators<Cuda>;
  m.impl("position_reduce.cuda", TORCH_BOX(&Of::position_reduce));
  m.impl("plane_pool.cuda", TORCH_BOX(&Of::plane_pool));
  m.impl("position_moments.cuda", TORCH_BOX(&Of::position_moments));
  m.impl("position_affine.cuda", TORCH_BOX(&Of::position_affine));
  m.impl("position_affine_inplace.cuda", TORCH_BOX(&PositionOperators<Cuda>::position_affine_inplace));
  m.impl("position_affine_reduce.cuda", TORCH_BOX(&Of::position_affine_reduce));
  m.impl("position_affine_spread.cuda", TORCH_BOX(&Of::position_affine_spread));
  m.impl("position_affine_grad.cuda", TORCH_BOX(&Of::position_affine_grad));
  m.impl("position_moments_pool.cuda", TORCH_BOX(&Of::position_moments_pool));
  m.impl("position_moments_affine.cuda", TORCH_BOX(&Of::position_moments_affine));
  m.impl("position_moments_affine_inplace.cuda", TORCH_BOX(&PositionOperators<Cuda>::position_moments_affine_inplace));
  m.impl("position_affine_spread_reduce.cuda", TORCH_BOX(&Of::position_affine_spread_reduce));
}

}  // namespace fusednorm
