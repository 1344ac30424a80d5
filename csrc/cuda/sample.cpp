#include "sample.h"

#include "device.h"
#include "tuning.h"

namespace fusednorm {

namespace {

// Of a device: bytes of shared memory that a block may have, multiprocessors, blocks of a cluster.
std::tuple<int64_t, int64_t, int64_t> resident_limits(Tensor x) {
  const Cuda device(x);
  const Stream& s = device.stream();
  return {int64_t(s.shared), int64_t(s.sms), int64_t(s.cluster)};
}

}  // namespace

Kept kept_in(const Shape& s, int64_t blocks, const Stream& stream) {
  STD_TORCH_CHECK(s.type != Type::f64 && blocks >= 1 && blocks <= stream.cluster,
                  "fusednorm: no kernel keeps float64, or has ", blocks, " blocks");
  const int64_t each = whole_pieces((s.C + blocks - 1) / blocks, kKeptSector / element_bytes(s.type));
  STD_TORCH_CHECK(blocks == 1 || each * (blocks - 1) < s.C, "fusednorm: ", s.C, " channels are too few for ", blocks,
                  " blocks");
  return {s, int(blocks), int(blocks == 1 ? s.C : each)};
}

Launch kept_launch(const char* name, const Kept& k, const Room& room) {
  const int64_t each = element_bytes(k.shape.type), bytes = room.maps * k.channels * k.shape.positions() * each;
  const int threads = bytes <= tuning::kSmallUnit ? tuning::kThreads : kept_threads(room.maps, each);
  Launch l{name, k.shape.N * k.blocks, threads, size_t(kept_bytes(k, room))};
  l.cluster = k.blocks;
  return l;
}

bool is_dense(const Operand& o, const Shape& s) {
  const int64_t S = s.positions();
  if (s.channels_last) return o.flat && o.c == 1 && (S == 1 || o.p0 == s.C);
  return o.flat && (s.C == 1 || o.c == S) && (S == 1 || o.p0 == 1);
}

Operand dense(const Tensor& t, const Tensor& x, const Shape& s, const char* name) {
  const Operand o = operand(t, x, name);
  STD_TORCH_CHECK(is_dense(o, s), "fusednorm: ", name, ": expected samples without gaps, in x's order");
  return o;
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) { m.impl("resident_limits.cuda", TORCH_BOX(&resident_limits)); }

}  // namespace fusednorm
