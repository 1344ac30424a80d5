// When outputs are written past the caches.
#include <cstdlib>

#include "operators.h"

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

}  // namespace fusednorm
