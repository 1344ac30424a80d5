// NA's head between the passes over what is kept (fusednorm/heads/context.py): the softmax over positions, and the
// gates from the context of all channels of a sample. All threads of a block come to each function here.
#pragma once

#include "context.h"
#include "head_math.cuh"
#include "sample_sums.cuh"

namespace fusednorm {

#include "../common/context_math.h"

// A row's t becomes p = softmax(Phi).
__device__ __forceinline__ void weights_of(const ContextArgs& k, float* row, int S, unsigned char* room) {
  float middle = 0;
  if (k.similarity == Similarity::mean_difference) middle = float(sum_of(S, room, [&](int s) { return row[s]; }) / S);
  double most[1] = {-double(INFINITY)};
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) {
    row[s] = context_score(k.similarity, row[s], middle);
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
  const float middle = difference ? float(sum_of(S, room, [&](int s) { return t[s]; }) / S) : 0;
  for (int s = int(threadIdx.x); s < S; s += int(blockDim.x))
    row[s] = context_score_back(k.similarity, t[s], middle, p[s], row[s], inner);
  if (difference) {  // t less its mean
    const float mean = float(sum_of(S, room, [&](int s) { return row[s]; }) / S);
    for (int s = int(threadIdx.x); s < S; s += int(blockDim.x)) row[s] -= mean;
  }
  __syncthreads();
}

__device__ __forceinline__ ContextPlane<float> context_plane(const ContextArgs& k, int64_t n, int c) {
  const auto at = [&](const float* values) { return values ? values + c : nullptr; };
  return {k.mean[n * k.shape.C + c], at(k.mu), at(k.scale), at(k.shift)};
}

// sum_s p (x - center)
__device__ __forceinline__ float context_pooled(const ContextArgs& k, const ContextPlane<float>& plane, int64_t n,
                                                int c) {
  return k.pooled ? k.pooled[n * k.shape.C + c] : plane.level;
}

__device__ __forceinline__ double context_of(const ContextArgs& k, int64_t n, int c) {
  const auto plane = context_plane(k, n, c);
  return plane.context(context_pooled(k, plane, n, c));
}

// Of the context of all channels of a sample.
__device__ __forceinline__ ContextGate<float> gates_of(const ContextArgs& k, int64_t n, unsigned char* room) {
  const int C = int(k.shape.C);
  const double mean = sum_of(C, room, [&](int c) { return context_of(k, n, c); }) / C;
  const double m2 = sum_of(C, room, [&](int c) {
    const double d = context_of(k, n, c) - mean;
    return d * d;
  });
  return {mean, m2, C, k.unbiased, double(k.eps), *k.gain, *k.offset};
}

}  // namespace fusednorm
