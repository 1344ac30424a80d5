// Shuffles and votes.
#pragma once

namespace emulation {

template <typename T>
  requires(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8))
T shuffle(WarpOp op, unsigned mask, T value, unsigned argument, int width) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_call(op, mask, bits, argument, unsigned(width));
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  return emulation::shuffle(emulation::WarpOp::shuffle, mask, value, unsigned(source), width);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  return emulation::shuffle(emulation::WarpOp::shuffle_xor, mask, value, unsigned(lane_mask), width);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  return emulation::shuffle(emulation::WarpOp::shuffle_up, mask, value, delta, width);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  return emulation::shuffle(emulation::WarpOp::shuffle_down, mask, value, delta, width);
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulation::warp_call(emulation::WarpOp::sync, mask, 0, 0, warpSize);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return unsigned(emulation::warp_call(emulation::WarpOp::ballot, mask, predicate != 0, 0, warpSize));
}

inline int __any_sync(unsigned mask, int predicate) {
  return emulation::warp_call(emulation::WarpOp::any, mask, predicate != 0, 0, warpSize) != 0;
}

inline int __all_sync(unsigned mask, int predicate) {
  return emulation::warp_call(emulation::WarpOp::all, mask, predicate != 0, 0, warpSize) == mask;
}

// Hardware promises no more than that the caller is among them.
inline unsigned __activemask() { return 1u << emulation::lane(); }
