// Launches a second of one block of 256 threads with two barriers.
#include <chrono>

#include "sample.h"

__global__ void two_barriers(float* x) {
  float* shared = reinterpret_cast<float*>(fusednorm::shared_bytes);
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float value = shared[(threadIdx.x + 1) % blockDim.x];
  __syncthreads();
  x[threadIdx.x] = value;
}

int main() {
  float* x = allocate<float>(256);
  for (int i = 0; i < 256; ++i) x[i] = float(i);
  const int launches = 2000;
  const auto config = configure(1, 256, 256 * sizeof(float));
  launch(config, two_barriers, x);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < launches; ++i) launch(config, two_barriers, x);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%.0f launches a second\n", launches / seconds.count());
}
