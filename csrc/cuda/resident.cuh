// What the resident kernels share: which items a group of threads takes, and where it keeps what it read.
#pragma once

#include "resident.h"
#include "team.cuh"
#include "walk.cuh"

namespace fusednorm {

// The unit of this block's team.
__device__ __forceinline__ Unit unit_of_team(const Resident& r, const Shape& s) {
  if (r.units == 1) return everything(s);
  const int64_t unit = blockIdx.x / r.cluster, n = unit / r.groups, channels = s.C / r.groups;
  const int64_t c = (unit - n * r.groups) * channels;
  return {n, n + 1, c, c + channels};
}

// f(item, this thread's places, the place of the ragged ends) for this group's items of the unit, in the same order every
// time. All threads of the block call f equally often: some with an item that doesn't exist.
template <class T, bool channels_last, class F>
__device__ __forceinline__ void each_item(const Resident& r, const Shape& s, const Unit& unit, const Team& team,
                                          const Operand& lead, int pieces, F&& f) {
  const Walk& w = r.walk;
  const int64_t items = w.lines * w.segments, groups = int64_t(team.size) * w.groups;
  const int64_t first = int64_t(team.rank) * w.groups + int(threadIdx.x) / (w.columns * w.lanes);
  auto* places = reinterpret_cast<uint4*>(shared_bytes + r.area) + threadIdx.x;
  for (int round = 0; round < r.rounds; ++round) {
    const int64_t number = first + round * groups;
    const bool exists = number < items;
    const Item<T, channels_last, true> item(w, s, unit, lead, exists ? number : 0, exists);
    f(item, places + round * r.slots * int(blockDim.x), r.slots - pieces);
  }
}

// One kernel for both layouts: it is the head, which they share, that takes long to compile.
template <class T, class F>
__device__ __forceinline__ void each_resident_item(const Resident& r, const Shape& s, const Unit& unit,
                                                   const Team& team, const Operand& lead, int pieces, F&& f) {
  if (s.channels_last)
    each_item<T, true>(r, s, unit, team, lead, pieces, f);
  else
    each_item<T, false>(r, s, unit, team, lead, pieces, f);
}

}  // namespace fusednorm
