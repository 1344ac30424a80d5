// What plane_affine does with an item, for the streaming and the resident kernels.
//   y = act(scale*(x - center) + shift + residual), and one bit a value where a mask is asked for      docs/engine.md
#pragma once

#include "affine.cuh"

namespace fusednorm {

constexpr int kAffineLoads = 2;  // steps in flight: with a residual 64 bytes a thread; without, more threads fit

// Bytes of shared memory for the planar mask: a bit a position, in words of its own for each group.
inline size_t mask_shared_bytes(const Walk& w) { return size_t(w.groups) * size_t((w.length + 31) / 32) * 4; }

// Planar: bits of any positions are collected in shared memory and leave as whole bytes.
struct PlanarMask {
  unsigned* words;  // of this thread's group

  __device__ __forceinline__ void start(const Walk& w, unsigned char* shared, int lane, int lanes) {
    const int count = int((w.length + 31) / 32);
    words = reinterpret_cast<unsigned*>(shared) + int(threadIdx.x) / lanes * count;
    __syncthreads();  // who wrote the last item's bytes has done so
    for (int i = lane; i < count; i += lanes) words[i] = 0;
    __syncthreads();
  }
  __device__ __forceinline__ void add(int position, unsigned bits) {
    const int word = position / 32, offset = position % 32;
    if (bits << offset) atomicOr(&words[word], bits << offset);
    if (offset && bits >> (32 - offset)) atomicOr(&words[word + 1], bits >> (32 - offset));
  }
  __device__ __forceinline__ void write(uint8_t* to, int count, int lane, int lanes) {
    __syncthreads();
    for (int i = lane; i < (count + 7) / 8; i += lanes) to[i] = uint8_t(words[i / 4] >> (i % 4 * 8));
  }
};

// channels_last: the bits of neighbouring threads' channels, joined to a byte in the first of them. Threads of the same
// lane come here together. Returns whether this thread holds the byte.
template <int V>
__device__ __forceinline__ bool join_bits(int columns, unsigned& bits) {
  const int sharers = V >= 8 ? 1 : min(columns, 8 / V), in_warp = int(threadIdx.x) % 32;
  const unsigned together = ((1u << sharers) - 1) << (in_warp & ~(sharers - 1));
  bits <<= V * (in_warp & (sharers - 1));
  for (int offset = 1; offset < sharers; offset *= 2) bits |= __shfl_xor_sync(together, bits, offset);
  return (in_warp & (sharers - 1)) == 0;
}

// kept: x as the pass before left it in shared memory (plane_moments.cuh), where `resident`.
template <Acts acts, bool resident, class T, bool channels_last, bool vectorized>
__device__ __forceinline__ void affine_item(const Walk& w, const AffineArgs& k, Item<T, channels_last, vectorized> item,
                                            unsigned char* shared, const uint4* kept, int ragged_slot) {
  using A = Compute<T>;
  constexpr int V = Item<T, channels_last, vectorized>::V, U = kAffineLoads;
  const Shape& shape = k.shape;
  const Act act = k.act;
  const Track<T> tx = item.track(k.x), tr = item.track(k.residual), ty = item.track(k.y);
  if constexpr (!resident) item.align(tx, tr, ty);
  const Coefficients<A, V, channels_last> coefficients(k, item.n, item.c, item.real);
  const int64_t mask_row = ((channels_last ? shape.C : shape.positions()) + 7) / 8;
  PlanarMask collected{};
  if (!channels_last && k.mask) collected.start(w, shared, item.lane, item.lanes);

  int place = 0;
  for (int i = item.lane; i < item.steps; i += item.lanes * U, place += U) {
    Raw<T, V> x[U], residual[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int step = i + u * item.lanes;
      if (item.real && step < item.steps) {
        if constexpr (resident)
          x[u].bits = kept[(place + u) * blockDim.x];
        else
          x[u] = load_written<T, V>(item.at(tx, k.x, shape, step));
        if (tr.first) residual[u] = load_written<T, V>(item.at(tr, k.residual, shape, step));
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int step = i + u * item.lanes;
      if (step >= item.steps) break;
      unsigned bits = 0;
      Raw<T, V> y;
      with_act<acts, A>(act, [&](auto value, auto passes) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
          A z = coefficients.z(j, value_of<T, V>(x[u], j));
          if (tr.first) z += value_of<T, V>(residual[u], j);
          if (k.mask) bits |= unsigned(passes(z)) << j;
          set_value<T, V>(y, j, value(z));
        }
      });
      if (k.mask) {
        if constexpr (channels_last) {
          if (!item.real) bits = 0;
          if (join_bits<V>(w.columns, bits) && item.real)
            k.mask[(item.n * shape.positions() + item.begin + step) * mask_row + item.c / 8] = uint8_t(bits);
        } else {
          collected.add(item.head + step * V, bits);
        }
      }
      if (item.real) store<T, V>(item.at(ty, k.y, shape, step), y, shape.stream);
    }
  }
  if constexpr (!channels_last) {
    if constexpr (V > 1) {
      const T* slot = resident ? reinterpret_cast<const T*>(kept + ragged_slot * blockDim.x) : nullptr;
      for (int e = item.lane; e < item.ragged(); e += item.lanes) {
        const int position = item.ragged_position(e);
        A z = coefficients.z(0, detail::to_compute(resident ? *slot++ : tx.first[position]));
        if (tr.first) z += detail::to_compute(tr.first[position]);
        with_act<acts, A>(act, [&](auto value, auto passes) {
          if (k.mask) collected.add(position, passes(z));
          ty.first[position] = detail::from_compute<T>(value(z));
        });
      }
    }
    if (k.mask) {  // a segment begins at a whole byte
      const int64_t plane = item.n * shape.C + item.c;
      collected.write(k.mask + plane * mask_row + item.begin / 8, item.count, item.lane, item.lanes);
    }
  }
}

}  // namespace fusednorm
