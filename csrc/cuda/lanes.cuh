// How what a group's lanes found comes together: in the same order every time. For sets of sums that know
//   Set shuffled(int offset) const   what the thread `offset` away in the warp has;   void merge(const Set&)
#pragma once

#include "plan.h"

namespace fusednorm {

// The result is lane 0's. All threads of the block come here.
template <class Set>
__device__ __forceinline__ void merge_lanes(Set& mine, const Walk& w, unsigned char* shared) {
  const int group = w.columns * w.lanes;
  for (int offset = w.columns; offset < min(32, group); offset *= 2) mine.merge(mine.shuffled(offset));
  if (group <= 32) return;
  auto* entries = reinterpret_cast<Set*>(shared);
  const int thread = threadIdx.x, warp = thread / 32, column = thread % 32;
  __syncthreads();  // who read the last item's entries has done so
  if (column < w.columns) entries[warp * w.columns + column] = mine;
  __syncthreads();
  if (thread % group < w.columns)
    for (int other = 1; other < group / 32; ++other) mine.merge(entries[(warp + other) * w.columns + column]);
}

}  // namespace fusednorm
