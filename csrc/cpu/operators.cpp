#include "operators.h"

#include <algorithm>
#include <cstdlib>

#include "../operators.h"
#include "../position_operators.h"

namespace fusednorm {

namespace {

// Outputs beyond this leave the caches before anybody reads them: writing them past the caches saves reading them in first.
// A layer touches four maps in either direction; of more than 8 MiB they don't fit a last cache of 32 MiB together. (What a
// system reports as its cache may be all sockets' together, so it is not asked.)
// FUSEDNORM_STREAM_BYTES=0 streams whatever it can (for tests).
int64_t stream_threshold() {
  static const int64_t threshold = [] {
    const char* asked = std::getenv("FUSEDNORM_STREAM_BYTES");
    return asked ? std::atoll(asked) : int64_t(8) << 20;
  }();
  return threshold;
}

}  // namespace

Shape Cpu::shape_of(const Tensor& x) {
  Shape s = fusednorm::shape_of(x);
  s.stream = x.numel() * int64_t(x.element_size()) > stream_threshold();
  return s;
}

void parallel(int64_t items, int64_t elements, void (*body)(void*, int64_t, int64_t), void* context) {
  if (items <= 0) return;
  // torch's own measure of what is worth a second thread.
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements));
  torch::stable::parallel_for(0, items, grain, [=](int64_t begin, int64_t end) { body(context, begin, end); });
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("plane_moments.cpu", TORCH_BOX(&Operators<Cpu>::plane_moments));
  m.impl("plane_affine.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine));
  m.impl("plane_affine_reduce.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine_reduce));
  m.impl("plane_affine_grad.cpu", TORCH_BOX(&Operators<Cpu>::plane_affine_grad));
  m.impl("position_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_reduce));
  m.impl("plane_pool.cpu", TORCH_BOX(&PositionOperators<Cpu>::plane_pool));
  m.impl("position_moments.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_moments));
  m.impl("position_moments_pool.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_moments_pool));
  m.impl("position_affine.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine));
  m.impl("position_affine_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_reduce));
  m.impl("position_affine_spread.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_spread));
  m.impl("position_affine_spread_reduce.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_spread_reduce));
  m.impl("position_affine_grad.cpu", TORCH_BOX(&PositionOperators<Cpu>::position_affine_grad));
}

}  // namespace fusednorm
