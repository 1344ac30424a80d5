// What the kernels of position_kept.h share. All threads of a block come to each function here.
#pragma once

#include "position_affine.cuh"
#include "position_kept.h"
#include "sample.cuh"
#include "sample_sums.cuh"

namespace fusednorm {

__device__ __forceinline__ Team team_of(const Kept& k) {
  return team_of(k.blocks == 1 ? Scope::block : Scope::cluster, k.blocks);
}

// Coefficients of the channels here, and the first rows, into shared memory; what is absent is zeros.
template <class Here>
__device__ __forceinline__ void fetch_terms(const PositionPass& k, const Here& here, int rows) {
  for (int i = 0; i < kForwardCoefficients; ++i) {
    const PerPlane& from = k.coefficients[i];
    const auto* data = static_cast<const float*>(from.data) + here.n * from.n + here.first * from.c;
    for (int c = int(threadIdx.x); c < here.channels; c += int(blockDim.x))
      here.values(i)[c] = from.data ? data[c * from.c] : 0;
  }
  for (int i = 0; i < rows; ++i) {
    const auto* data = static_cast<const float*>(k.rows[i]) + here.n * here.positions;
    for (int s = int(threadIdx.x); s < here.positions; s += int(blockDim.x)) here.row(i)[s] = k.rows[i] ? data[s] : 0;
  }
}

// Those of a step, R of the rows.
template <class Here, int count, int C, int R>
struct StepTerms {
  decltype(Here::template of_channels<count>(nullptr, 0)) coefficients[C];
  decltype(Here::template of_positions<count>(nullptr, 0)) rows[R];

  __device__ __forceinline__ StepTerms(const Here& here, int c, int s) {
#pragma unroll
    for (int i = 0; i < C; ++i) coefficients[i] = Here::template of_channels<count>(here.values(i), c);
#pragma unroll
    for (int i = 0; i < R; ++i) rows[i] = Here::template of_positions<count>(here.row(i), s);
  }
};

// Mean and biased variance over all channels of e(Count<count>, c, s, float (&value)[count]) at every position, kept
// where the caller asked for them; row kU becomes their statistic. Less the block's first channel, and in two sweeps:
// where all channels are alike the variance is 0, exactly. Takes rows kU, kOffset and kSlope.
template <class Here, class E>
__device__ __forceinline__ void moments_over_channels(const PositionKept& k, const Here& here, const Team& team,
                                                      E&& e) {
  const int S = here.positions, step = int(blockDim.x);
  const float channels = float(here.channels);
  float *const first = here.row(kU), *const delta = here.row(kOffset), *const squares = here.row(kSlope);
  for (int s = int(threadIdx.x); s < S; s += step) {
    float value[1];
    e(Count<1>{}, 0, s, value);
    first[s] = value[0];
  }
  __syncthreads();
  here.template position_sums<1>(
      [&]<int count>(Count<count> values, int c, int s, auto& found) {
        const auto f = Here::template of_positions<count>(first, s);
        e(values, c, s, found[0]);
#pragma unroll
        for (int j = 0; j < count; ++j) found[0][j] -= f[j];
      },
      [&](int s, const auto& sums) { delta[s] = sums[0] / channels; });
  __syncthreads();
  here.template position_sums<2>(
      [&]<int count>(Count<count> values, int c, int s, auto& found) {
        const auto f = Here::template of_positions<count>(first, s);
        const auto d = Here::template of_positions<count>(delta, s);
        e(values, c, s, found[0]);
#pragma unroll
        for (int j = 0; j < count; ++j) {
          found[0][j] = found[0][j] - f[j] - d[j];
          found[1][j] = found[0][j] * found[0][j];
        }
      },
      [&](int s, const auto& sums) {
        const float left = sums[0] / channels, squared = sums[1] - sums[0] * left;
        delta[s] += left;
        squares[s] = squared < 0 ? 0 : squared;
      });
  __syncthreads();
  double* all = team.size > 1 ? k.exchange + here.n * team.size * 2 * S : nullptr;
  if (team.size > 1) {
    double* own = all + team.rank * 2 * S;
    for (int s = int(threadIdx.x); s < S; s += step)
      own[s] = double(first[s]) + double(delta[s]), own[S + s] = double(squares[s]);
    team.sync();
  }
  for (int s = int(threadIdx.x); s < S; s += step) {
    double mean = all ? all[s] : double(first[s]) + double(delta[s]), m2 = all ? all[S + s] : double(squares[s]);
    const int C = int(k.kept.shape.C);
    for (int rank = 1; rank < team.size; ++rank) {
      const int before = rank * k.kept.channels, more = min(k.kept.channels, C - before);
      const double difference = all[rank * 2 * S + s] - mean, share = double(more) / double(before + more);
      mean += difference * share;
      m2 += all[(rank * 2 + 1) * S + s] + difference * difference * share * before;
    }
    const float var = float(m2) / float(C);
    if (team.rank == 0) k.mean[here.n * S + s] = float(mean), k.var[here.n * S + s] = var;
    first[s] = k.statistic == Statistic::mean ? float(mean) : sqrtf(var);
  }
  __syncthreads();
}

}  // namespace fusednorm
