#include "operators.h"

#include <algorithm>

#include "../operators.h"
#include "../position_operators.h"

namespace fusednorm {

void parallel(int64_t items, int64_t elements, void (*body)(void*, int64_t, int64_t), void* context) {
  if (items <= 0) return;
  // torch's own measure of what is worth a second thread.
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements));
  torch::stable::parallel_for(0, items, grain, [=](int64_t begin, int64_t end) { body(context, begin, end); });
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("plane_moments.cpu", TORCH_BOX(&Operators<Cpu>::plane_moments));
  m.impl("plane_affine.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine));
  m.impl("plane_affine_inplace.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine_inplace));
  m.impl("plane_affine_reduce.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine_reduce));
  m.impl("plane_affine_grad.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine_grad));
  m.impl("position_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_reduce));
  m.impl("plane_pool.cpu", TORCH_BOX(&PositionOperators<Cpu>::plane_pool));
  m.impl("position_moments.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_moments));
  m.impl("position_moments_pool.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_moments_pool));
  m.impl("position_affine.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine));
  m.impl("position_affine_inplace.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_inplace));
  m.impl("position_affine_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_reduce));
  m.impl("position_affine_spread.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_spread));
  m.impl("position_affine_spread_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_spread_reduce));
  m.impl("position_affine_grad.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_grad));
  m.impl("norm_forward.cpu", TORCH_BOX(&LayerOperators<Cpu>::norm_forward));
  m.impl("norm_forward_inplace.cpu", TORCH_BOX(&LayerOperators<Cpu>::norm_forward_inplace));
  m.impl("norm_backward.cpu", TORCH_BOX(&LayerOperators<Cpu>::norm_backward));
}

}  // namespace fusednorm
