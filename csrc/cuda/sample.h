// Samples kept on the chip, by a block or a cluster of up to 8, each block some of the channels: a map is read once,
// however often a kernel sweeps over it. What is summed over all channels goes through L2, in the blocks' order. Which
// samples fit is fusednorm/engine/resident.py's to say, with the same numbers.
#pragma once

#include <cstdint>

#include "launch.h"
#include "plan.h"

namespace fusednorm {

struct Kept {
  Shape shape;
  int blocks;    // that keep a sample
  int channels;  // of a block; the last may have fewer
};

// What a block keeps.
struct Room {
  int maps, rows, arrays;  // of values; of a value for each position; of a value for each channel
};

constexpr int kKeptRoom = 9216;  // bytes to add things up in
constexpr int kKeptSector = 32;  // bytes: a block has whole ones of a channels_last row, and of its mask's bytes

constexpr int64_t whole_pieces(int64_t n, int64_t piece) { return (n + piece - 1) / piece * piece; }

// Shared memory of a block.
inline int64_t kept_bytes(const Kept& k, const Room& room) {
  const int64_t S = k.shape.positions(), bytes = element_bytes(k.shape.type);
  return room.maps * whole_pieces(k.channels * S * bytes, 16) + 4 * room.rows * whole_pieces(S, 4) +
         4 * room.arrays * whole_pieces(k.channels, 4) + kKeptRoom;
}

// Backward eight values at a time, with as many coefficients each, take more registers than 512 threads have.
constexpr int kept_threads(int maps, int64_t value_bytes) { return maps == 2 && value_bytes == 2 ? 256 : 512; }

// Refuses what it is not for: float64, and more blocks than there are runs of channels or a cluster has.
Kept kept_in(const Shape& s, int64_t blocks, const Stream& stream);

// Where a block keeps little it has fewer threads.
Launch kept_launch(const char* name, const Kept& k, const Room& room);

// Whether a sample's values are without gaps, in x's order.
bool is_dense(const Operand& o, const Shape& s);

}  // namespace fusednorm
