// The four streaming kernels as operators. A plane that was split is merged by a second, small kernel.
#include "../operators.h"

#include "device.h"
#include "head.h"
#include "kernels.h"

namespace fusednorm {

Partials Cuda::partials(const Shape& shape, const Walk& walk) {
  Partials p;
  if (walk.segments == 1) return p;
  p.segments = walk.segments, p.length = walk.length;
  p.N = shape.N, p.C = shape.C, p.S = shape.positions();
  const int64_t values = p.segments * p.N * p.C;
  p.first = static_cast<double*>(memory(2 * size_t(values) * sizeof(double)));
  p.second = p.first + values;
  return p;
}

void Cuda::plane_moments(const MomentsArgs& k) {
  const Plan plan = plan_moments(k);
  const Partials split = partials(k.shape, plan.walk);
  fusednorm::plane_moments(k, plan, split, stream_);
  if (split.segments > 1)
    merge_moments(split, static_cast<double*>(k.mean.data), k.var.data, k.shape.type == Type::f64, stream_);
}

void Cuda::plane_affine(const AffineArgs& k) { fusednorm::plane_affine(k, stream_); }

void Cuda::plane_affine_reduce(const AffineArgs& k) {
  const Plan plan = plan_reduce(k);
  const Partials split = partials(k.shape, plan.walk);
  fusednorm::plane_affine_reduce(k, plan, split, stream_);
  if (split.segments > 1) merge_sums(split, k.dshift.data, k.dscale.data, k.shape.type == Type::f64, stream_);
}

void Cuda::plane_affine_grad(const AffineArgs& k) { fusednorm::plane_affine_grad(k, stream_); }

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) {
  m.impl("plane_moments.cuda", TORCH_BOX(&Operators<Cuda>::plane_moments));
  m.impl("plane_affine.cuda", TORCH_BOX(&Operators<Cuda>::plane_affine));
  m.impl("plane_affine_inplace.cuda", TORCH_BOX(&Operators<Cuda>::plane_affine_inplace));
  m.impl("plane_affine_reduce.cuda", TORCH_BOX(&Operators<Cuda>::plane_affine_reduce));
  m.impl("plane_affine_grad.cuda", TORCH_BOX(&Operators<Cuda>::plane_affine_grad));
}

}  // namespace fusednorm
