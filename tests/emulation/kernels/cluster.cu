// Blocks of a cluster read each other's shared memory. FAULT 1: before it is written; 2: after its block may have
// gone.
#include <cooperative_groups.h>

#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

__global__ void sum(int* result) {
  const auto cluster = cooperative_groups::this_cluster();
  int* own = reinterpret_cast<int*>(fusednorm::shared_bytes);
  own[threadIdx.x] = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (FAULT != 1) cluster.sync();
  int total = 0;
  for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) total += cluster.map_shared_rank(own, rank)[threadIdx.x];
  result[blockIdx.x * blockDim.x + threadIdx.x] = 10 * total + int(cluster.block_rank());
  if (FAULT != 2) cluster.sync();
}

int main() {
  const int blocks = 8, threads = 64, size = 4;
  int* result = allocate<int>(blocks * threads);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = configure(blocks, threads, threads * sizeof(int));
  config.attrs = &attribute;
  config.numAttrs = 1;
  launch(config, sum, result);
  int wrong = 0;
  for (int i = 0; i < blocks * threads; ++i) {
    const int block = i / threads, first = block / size * size;
    int total = 0;
    for (int b = first; b < first + size; ++b) total += b * threads + i % threads;
    wrong += result[i] != 10 * total + block % size;
  }
  std::printf(wrong ? "wrong\n" : "right\n");
}
