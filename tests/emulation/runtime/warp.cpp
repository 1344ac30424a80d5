// Shuffles and votes: the last lane to arrive does the work for all.
#include "state.h"

namespace emulation {
namespace {

// The lane that a shuffle reads.
unsigned source(const WarpCall& call, unsigned lane) {
  const unsigned group = lane & ~(call.width - 1), last = group + call.width - 1, by = call.argument & 31;
  switch (call.op) {
    case WarpOp::shuffle:
      return group + (call.argument & (call.width - 1));
    case WarpOp::shuffle_xor:
      return (lane ^ by) <= last ? lane ^ by : lane;
    case WarpOp::shuffle_up:
      return lane >= group + by ? lane - by : lane;
    default:
      return lane + by <= last ? lane + by : lane;
  }
}

void check(const Thread& thread) {
  const WarpCall& call = thread.call;
  if (!(call.mask >> lane() & 1)) fail("%s by lane %u, which the mask does not name", describe(call).c_str(), lane());
  if (call.width == 0 || call.width > 32 || (call.width & (call.width - 1)))
    fail("%s with width %u: not a power of two up to 32", describe(call).c_str(), call.width);
}

}  // namespace

unsigned lane() { return current->rank % 32; }

void complete_warp(Thread& thread) {
  const unsigned first = thread.rank - thread.rank % 32, mask = thread.call.mask;
  Block& block = *thread.block;
  uint64_t values[32], ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    values[lane] = ~uint64_t(0);  // reading a lane that the mask does not name gives anything
    if (!(mask >> lane & 1)) continue;
    if (first + lane >= block.size) return;
    const Thread& other = block.threads[first + lane];
    if (other.state != State::in_warp || other.call.mask != mask) return;
    values[lane] = other.call.value;
    ballot |= uint64_t(other.call.value != 0) << lane;
  }

  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Thread& other = block.threads[first + lane];
    if (other.call.op != thread.call.op)
      fail("%s here, but %s in lane %u of the same warp", describe(thread.call).c_str(), describe(other.call).c_str(),
           lane);
    other.call.value = other.call.op >= WarpOp::shuffle ? values[source(other.call, lane)] : ballot;
    other.state = State::ready;
  }
}

uint64_t warp_call(WarpOp op, unsigned mask, uint64_t value, unsigned argument, unsigned width) {
  Thread& thread = *current;
  thread.call = {op, mask, argument, width, value};
  check(thread);
  wait(State::in_warp);
  return thread.call.value;
}

}  // namespace emulation
