// Sums over positions and over channels that were taken in parts: added, always in the parts' order, an entry a thread.
// Traffic: the parts, at most a few hundredths of a map.
#include "dispatch.cuh"
#include "position_kernels.h"
#include "start.cuh"
#include "tuning.h"

namespace fusednorm {

template <class A>
__global__ void __launch_bounds__(tuning::kThreads) merge_parts_kernel(const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, sum = i / parts.entries;
  if (sum >= parts.sums || parts.out[sum] == nullptr) return;
  const int64_t entry = i - sum * parts.entries;
  double total = 0;
#pragma unroll 4
  for (int64_t part = 0; part < parts.parts; ++part) total += parts.at(part, int(sum), entry);
  static_cast<A*>(parts.out[sum])[entry] = A(total);
}

// (count, mean, M2) of runs of channels -> mean and biased variance.
template <class A>
__global__ void __launch_bounds__(tuning::kThreads) merge_channels_kernel(const __grid_constant__ Parts parts) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int64_t entry = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (entry >= parts.entries) return;
  double count = 0, mean = 0, m2 = 0;
#pragma unroll 1
  for (int64_t part = 0; part < parts.parts; ++part) {
    const double more = double(min(parts.width, parts.channels - part * parts.width)), total = count + more;
    const double delta = parts.at(part, 0, entry) - mean;
    mean += delta * (more / total);
    m2 += parts.at(part, 1, entry) + delta * delta * (count * more / total);
    count = total;
  }
  static_cast<A*>(parts.out[0])[entry] = A(mean);
  static_cast<A*>(parts.out[1])[entry] = A(m2 / count);
}

namespace {

Launch merging(const char* name, int64_t entries) {
  return {name, (entries + tuning::kThreads - 1) / tuning::kThreads, tuning::kThreads};
}

}  // namespace

void merge_parts(const Parts& parts, bool f64, const Stream& s) {
  with_bool(f64, [&](auto is_double) {
    using A = std::conditional_t<is_double, double, float>;
    launch(merging("merge_parts", parts.entries * parts.sums), s, merge_parts_kernel<A>, parts);
  });
}

void merge_channels(const Parts& parts, bool f64, const Stream& s) {
  with_bool(f64, [&](auto is_double) {
    using A = std::conditional_t<is_double, double, float>;
    launch(merging("merge_channels", parts.entries), s, merge_channels_kernel<A>, parts);
  });
}

}  // namespace fusednorm
