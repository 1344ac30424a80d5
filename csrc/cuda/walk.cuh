// How threads are laid over a map; plan.h decides the numbers.
//
// A *line* is what one group of threads walks along: planar, a plane; channels_last, a stripe of `columns` vectors of
// channels through all positions of a sample. Long lines are cut into segments; line and segment together are an *item*.
// In a block of B threads, from the innermost: `columns` threads side by side (planar: 1), `lanes` threads one behind
// the other along the positions, B/(columns*lanes) groups, one item each.
//
//   thread = (group*lanes + lane)*columns + column;   item = block*groups + group;   line = item/segments
//
// A thread takes one *step* at a time: V values, 16 bytes: V positions of its plane, or V channels of one position.
// Planar segments begin anywhere: what lies before the first 16-byte boundary and after the last (the ragged ends) is taken
// value by value, and so is the whole item where the operands' boundaries differ. Where runs of values are not contiguous in
// memory, or channels_last rows not aligned, V is 1 and a step is one value.
#pragma once

#include "plan.h"
#include "start.cuh"
#include "vec.cuh"

namespace fusednorm {

// Of a streaming kernel: the item of this thread's group.
struct ItemNumber {
  int64_t item;
  bool exists;
};

__device__ __forceinline__ ItemNumber number_of(const Walk& w) {
  const int64_t items = w.lines * w.segments;
  const int64_t item = int64_t(blockIdx.x) * w.groups + int(threadIdx.x) / (w.columns * w.lanes);
  if (item >= items) return {0, false};
  return {w.backwards ? items - 1 - item : item, true};
}

// Offset of a position in a plane of any strides.
__device__ __forceinline__ int64_t offset_of(const Operand& t, const Shape& s, int64_t position) {
  if (t.flat) return position * t.p0;
  const int64_t row = position / s.P0, p2 = row / s.P1;
  return p2 * t.p2 + (row - p2 * s.P1) * t.p1 + (position - row * s.P0) * t.p0;
}

// One operand as a thread walks it, from its item's first position on.
template <class T>
struct Track {
  T* first = nullptr;
  int64_t row = 0;  // channels_last: from one position to the next
};

// The item that a thread works at, and its place in it.
template <class T, bool channels_last, bool vectorized>
struct Item {
  static constexpr int V = kValues<T, vectorized>;

  int64_t n, c;  // sample, (first) channel
  int64_t segment;
  int64_t begin;    // position
  int count;        // positions
  int head;         // of them before the first whole step
  int steps;        // whole steps
  int lane, lanes;  // this thread takes steps lane, lane + lanes, ...
  bool real;        // false where this thread's item or channel is beyond the map

  // Item `number` of the unit's; steps begin where 16-byte boundaries of `lead` are.
  __device__ __forceinline__ Item(const Walk& w, const Shape& s, const Unit& unit, const Operand& lead, int64_t number,
                                  bool exists)
      : lane(int(threadIdx.x) / w.columns % w.lanes), lanes(w.lanes) {
    const int64_t line = number / w.segments, S = s.positions();
    segment = number - line * w.segments;
    begin = segment * w.length;
    const int64_t lines_of_sample = channels_last ? w.stripes : unit.c1 - unit.c0, sample = line / lines_of_sample;
    n = unit.n0 + sample;
    c = line - sample * lines_of_sample;
    if constexpr (channels_last) c = (c * w.columns + int(threadIdx.x) % w.columns) * V;
    c += unit.c0;
    count = exists ? int(begin + w.length < S ? w.length : S - begin) : 0;
    real = exists && c < unit.c1;
    head = 0;
    steps = count;
    if constexpr (!channels_last && V > 1) {
      if (exists) {
        const auto address = reinterpret_cast<uintptr_t>(static_cast<T*>(lead.data) + n * lead.n + c * lead.c + begin);
        const int before = int(address / sizeof(T)) & (V - 1);
        head = before ? min(V - before, count) : 0;
        steps = (count - head) / V;
      }
    }
  }

  __device__ __forceinline__ Track<T> track(const Operand& t) const {
    if (t.data == nullptr || !real) return {};
    T* plane = static_cast<T*>(t.data) + n * t.n + c * t.c;
    if constexpr (!vectorized)
      return {plane, 0};
    else if constexpr (channels_last)
      return {plane + begin * t.p0, t.p0};
    else
      return {plane + begin, 0};
  }

  // Where step i of an operand begins.
  __device__ __forceinline__ T* at(const Track<T>& k, const Operand& t, const Shape& s, int i) const {
    if constexpr (!vectorized)
      return k.first + offset_of(t, s, begin + i);
    else if constexpr (channels_last)
      return k.first + i * k.row;
    else
      return k.first + head + i * V;
  }

  // Planar: no steps, only ragged ends, unless the steps of all operands begin at 16-byte boundaries.
  template <class... Tracks>
  __device__ __forceinline__ void align(const Tracks&... tracks) {
    if constexpr (!channels_last && V > 1) {
      const uintptr_t off = (... | (tracks.first ? reinterpret_cast<uintptr_t>(tracks.first + head) : uintptr_t(0)));
      if (off % 16 != 0) head = steps = 0;
    }
  }

  // Planar ragged ends: `ragged()` positions; the e-th of them, counted from `begin`, is:
  __device__ __forceinline__ int ragged() const { return channels_last || V == 1 ? 0 : count - steps * V; }
  __device__ __forceinline__ int ragged_position(int e) const { return e < head ? e : e + steps * V; }
};

// N×C values of a step: one for all where planar, one a channel where channels_last.
template <class A, int V, bool channels_last>
struct Coefficient {
  A value[channels_last ? V : 1];
  __device__ __forceinline__ A operator[](int j) const { return value[channels_last ? j : 0]; }
};

template <class A, int V, bool channels_last, class From>
__device__ __forceinline__ Coefficient<A, V, channels_last> coefficient(const From* data, int64_t n_stride,
                                                                        int64_t c_stride, int64_t n, int64_t c,
                                                                        bool real) {
  Coefficient<A, V, channels_last> k;
#pragma unroll
  for (int j = 0; j < (channels_last ? V : 1); ++j)
    k.value[j] = data && real ? A(data[n * n_stride + (c + j) * c_stride]) : A(0);
  return k;
}

template <class A, int V, bool channels_last>
__device__ __forceinline__ Coefficient<A, V, channels_last> coefficient(const PerPlane& t, int64_t n, int64_t c,
                                                                        bool real) {
  return coefficient<A, V, channels_last>(static_cast<const A*>(t.data), t.n, t.c, n, c, real);
}

}  // namespace fusednorm
