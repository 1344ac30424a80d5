// The launch table: how many threads, how much work for each. Reckoned from what the hardware offers and from what the
// compiler makes of the kernels (make check-kernels holds both against these numbers); no GPU has timed them yet.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.h"

namespace fusednorm::tuning {

// Threads of a block: 8 warps end a reduction in one exchange through shared memory, and leave the scheduler small pieces.
constexpr int kThreads = 256;

// Blocks that an SM must have room for, so at most 65536/(256*blocks) registers a thread. Little's law on an H200: 4.8 TB/s
// times some 800 ns is 3.8 MB in flight, 29 KiB an SM. Steps of 16-bit values are eight values with eight times the
// coefficients and sums (channels_last), doubles take two registers each.
struct Blocks {
  int f32, f64, half;
  constexpr int of(int bytes) const { return bytes == 4 ? f32 : bytes == 8 ? f64 : half; }
};
constexpr Blocks kMomentsBlocks = {3, 3, 2};       // 512 threads * 4 loads * 16 B = 32 KiB in flight at least
constexpr Blocks kAffineBlocks = {3, 2, 3};        // 768 threads * 2 to 4 loads: 24 to 48 KiB; double 16 to 32
constexpr Blocks kSmoothAffineBlocks = {3, 2, 2};  // likewise, but for the registers that exp and erfc take
constexpr Blocks kReduceBlocks = {2, 2, 2};        // 512 threads * 4 to 6 loads: 32 to 48 KiB
constexpr Blocks kSmoothReduceBlocks = {2, 2, 1};
constexpr Blocks kGradBlocks = {2, 2, 2};  // likewise

// Those of docs/positions.md. What they know of a step fills registers: channels_last up to fourteen coefficients and
// seven sums for each of its values, planar up to eight rows. So backward one block of up to 255 registers a thread is
// alone on an SM, and has more under way for that: 256 threads * 3 steps of dy and x * 16 B = 24 KiB, with a residual 36.
// Steps of 16-bit channels_last values find room for two, 16 KiB (24). Double takes single values, one at a time.
// position_reduce, plane_pool and position_moments: 512 threads * 4 loads = 32 KiB at least; position_affine: 512
// threads * 3 steps of x = 24 KiB (two where 16-bit channels_last: 16; twice that with a residual).
constexpr Blocks kPositionSumBlocks = {3, 2, 2};
constexpr Blocks kPositionMomentsBlocks = {2, 2, 2};
constexpr Blocks kPositionAffineBlocks = {2, 2, 2};
constexpr Blocks kPositionGradientBlocks = {1, 1, 1};
constexpr int kPositionLoads = 4;
constexpr int position_steps(size_t bytes, bool channels_last) {
  return bytes == 8 ? 1 : bytes == 2 && channels_last ? 2 : 3;
}
// position_affine_reduce keeps seven sums a value too: eight values of 16 bits leave room for one step.
constexpr int position_sum_steps(size_t bytes, bool channels_last) {
  return bytes == 2 && channels_last ? 1 : position_steps(bytes, channels_last);
}

// Steps of a thread in flight in the kernels that read dy and x; smooth activations leave registers for one.
template <Acts acts>
constexpr int kGradientSteps = acts == Acts::relu_like ? 2 : 1;

// Blocks wanted in all where there is work for them: 8 for each of an H200's 132 SMs. A constant, so that splits are
// the same on every GPU.
constexpr int64_t kBlocks = 1056;

// Steps (of 16 bytes) that a thread should have at least, or it spends its time on coefficients and reductions.
constexpr int64_t kSteps = 4;

// Threads side by side in memory: planar, 8 of 16 bytes are one 128-byte line; channels_last, at most a warp (512 bytes).
constexpr int kMinLanes = 8;
constexpr int kMaxColumns = 32;

// Positions of a segment at most: a planar mask's bits are collected in shared memory, 8 KiB of it; and counts fit an int.
constexpr int64_t kMaxLength = 65536;
constexpr int64_t kMaxReduceLength = int64_t(1) << 20;  // and a thread's sums, in the compute type, stay short

// Resident kernels. One block of 512 threads with 128 registers each fills an SM's registers and may fill its shared memory;
// where a thread needs more, blocks of 256: smooth activations, and backward 16-bit values (eight of them at a time with
// five coefficients each). Units of at most 64 KiB get blocks of 256 too, two on an SM, so that one reads while the other
// calculates.
constexpr int resident_forward_threads(bool smooth) { return smooth ? 256 : 512; }
constexpr int resident_backward_threads(bool smooth, int bytes) { return smooth || bytes == 2 ? 256 : 512; }
constexpr int64_t kSmallUnit = 65536;
constexpr int kResidentIdle =
    2;  // at least sms/2 blocks, or the streaming kernels, which split planes, should be faster

// Maps larger than this share of L2 are written past it (evict first): what stays is x, which the next pass reads.
constexpr double kStreamShare = 0.25;

}  // namespace fusednorm::tuning
