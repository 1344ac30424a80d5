// NA's head between the passes over what is kept (fusednorm/heads/context.py): the softmax over positions, and the
// gates from the context of all channels of a sample. All threads of a block come to each function here.
#pragma once

#include "context.h"
#include "team.cuh"

namespace fusednorm {

// Sums (with `most`: maxima) over a block's threads, in all of them.
template <int M, bool most = false>
__device__ __forceinline__ void over_block(double (&value)[M], unsigned char* room) {
  auto* entries = reinterpret_cast<double*>(room + kContextRoom - 1024);
  const auto joined = [](double a, double b) { return most ? (a > b ? a : b) : a + b; };
#pragma unroll
  for (int m = 0; m < M; ++m)
    for (int offset = 1; offset < 32; offset *= 2)
      value[m] = joined(value[m], __shfl_xor_sync(0xffffffffu, value[m], offset));
  const int warps = int(blockDim.x) / 32;
  __syncthreads();  // who read the last ones has done so
  if (threadIdx.x % 32 == 0)
#pragma unroll
    for (int m = 0; m < M; ++m) entries[int(threadIdx.x) / 32 * M + m] = value[m];
  __syncthreads();
#pragma unroll
  for (int m = 0; m < M; ++m) {
    value[m] = entries[m];
    for (int warp = 1; warp < warps; ++warp) value[m] = joined(value[m], entries[warp * M + m]);
  }
}

template <class F>
__device__ __forceinline__ double sum_of(int count, unsigned char* room, F&& f) {
  double sum[1] = {0};
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) sum[0] += double(f(i));
  over_block(sum, room);
  return sum[0];
}

// What the blocks of a team found at each position, added in their order.
__device__ __forceinline__ void add_blocks(const ContextArgs& k, const Team& team, int64_t n, float* row, int S) {
  __syncthreads();
  if (team.size == 1) return;
  float* all = k.exchange + n * team.size * S;
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) all[team.rank * S + s] = row[s];
  team.sync();
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    double sum = 0;
    for (int rank = 0; rank < team.size; ++rank) sum += double(all[rank * S + s]);
    row[s] = float(sum);
  }
  __syncthreads();
}

// A row's t becomes p = softmax(Phi).
__device__ __forceinline__ void weights_of(const ContextArgs& k, float* row, int S, unsigned char* room) {
  float middle = 0;
  if (k.similarity == Similarity::mean_difference) middle = float(sum_of(S, room, [&](int s) { return row[s]; }) / S);
  double most[1] = {-double(INFINITY)};
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    const float t = row[s];
    row[s] = k.similarity == Similarity::dot               ? t
             : k.similarity == Similarity::mean_difference ? -fabsf(t - middle)
                                                           : -t;
    most[0] = row[s] > most[0] ? double(row[s]) : most[0];
  }
  over_block<1, true>(most, room);
  const float largest = float(most[0]);
  const double sum = sum_of(S, room, [&](int s) { return row[s] = expf(row[s] - largest); });
  const float share = float(1 / sum);
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) row[s] *= share;
  __syncthreads();
}

// Back through it: dp becomes dt. t: this sample's, as it was summed.
__device__ __forceinline__ void weights_back(const ContextArgs& k, const float* p, const float* t, float* row, int S,
                                             unsigned char* room) {
  const float inner = float(sum_of(S, room, [&](int s) { return double(p[s]) * row[s]; }));
  const bool difference = k.similarity == Similarity::mean_difference;
  const float sign = k.similarity == Similarity::dot ? 1 : -1;
  const float middle = difference ? float(sum_of(S, room, [&](int s) { return t[s]; }) / S) : 0;
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    const float side = !difference ? 1 : t[s] > middle ? 1 : t[s] < middle ? -1 : 0;
    row[s] = sign * side * p[s] * (row[s] - inner);
  }
  if (difference) {  // t less its mean
    const float mean = float(sum_of(S, room, [&](int s) { return row[s]; }) / S);
    for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) row[s] -= mean;
  }
  __syncthreads();
}

// f of the position sums.
__device__ __forceinline__ Kind kind_of(Similarity similarity) {
  return similarity == Similarity::l1 ? Kind::abs : similarity == Similarity::squared ? Kind::square : Kind::sum;
}

// z = scale*(x - center) + shift before the gate.
struct Inner {
  float center, scale, shift, level;  // level: the plane mean less its rounding, the center

  __device__ __forceinline__ Inner(const ContextArgs& k, int64_t n, int c) {
    const double mean = k.mean[n * k.shape.C + c];
    center = float(mean), level = float(mean - double(center));
    scale = k.scale ? k.scale[c] : 1;
    shift = k.scale ? scale * (center - k.mu[c]) + k.shift[c] : center;
  }

  // sum_s p (x - center)
  __device__ __forceinline__ float pooled(const ContextArgs& k, int64_t n, int c) const {
    return k.pooled ? k.pooled[n * k.shape.C + c] : level;
  }

  // Of the position sums, sum_c weight*f(x - center).
  __device__ __forceinline__ float weight(const ContextArgs& k) const {
    return k.similarity == Similarity::l1                ? fabsf(scale)
           : k.similarity == Similarity::squared         ? scale * scale
           : k.similarity == Similarity::mean_difference ? scale / float(k.shape.C)
                                                         : scale * (shift + scale * level);
  }
};

// Of the context g over channels: NA eqs. 7-9. (`unbiased`: the official code's deviation, with eps outside the root.)
struct Gates {
  double mean;
  float root, sigma, gain, offset;

  static __device__ __forceinline__ double context(const ContextArgs& k, int64_t n, int c) {
    const Inner inner(k, n, c);
    return double(inner.scale * inner.pooled(k, n, c)) + double(inner.shift);
  }

  __device__ __forceinline__ Gates(const ContextArgs& k, int64_t n, unsigned char* room) {
    const int C = int(k.shape.C);
    mean = sum_of(C, room, [&](int c) { return context(k, n, c); }) / C;
    const double m2 = sum_of(C, room, [&](int c) {
      const double d = context(k, n, c) - mean;
      return d * d;
    });
    root = k.unbiased ? float(sqrt(m2 / max(C - 1, 1))) : sqrtf(float(m2 / C) + k.eps);
    sigma = k.unbiased ? root + k.eps : root;
    gain = *k.gain, offset = *k.offset;
  }

  __device__ __forceinline__ float standardized(double g) const { return float(g - mean) / sigma; }
  __device__ __forceinline__ float gate(float h) const { return 1 / (1 + expf(-(gain * h + offset))); }

  // dg of g, from da of the gate's argument a = gain*h + offset, and over all channels its mean and that of da*h.
  __device__ __forceinline__ float back(const ContextArgs& k, float h, float da, float mean_da, float mean_dah) const {
    const float C = float(k.shape.C), correction = k.unbiased ? C / max(C - 1, 1.f) * sigma / root : 1;
    const float along = root > 0 ? h * mean_dah * correction : 0;
    return gain * (da - mean_da - along) / sigma;
  }
};

}  // namespace fusednorm
