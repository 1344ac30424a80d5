// What the driver refuses, by name; and that a refused launch runs nothing.
#include "sample.h"

__global__ void touch(int* x) { *x = 1; }

namespace {

int* x;

void attempt(const char* what, cudaLaunchConfig_t config, cudaLaunchAttribute attribute = {}) {
  config.attrs = &attribute;
  config.numAttrs = 1;
  *x = 0;
  const cudaError_t error = cudaLaunchKernelEx(&config, touch, x);
  CHECK(cudaDeviceSynchronize());
  const bool kept = cudaGetLastError() == error && cudaGetLastError() == cudaSuccess;
  std::printf("%s: %s%s%s\n", what, cudaGetErrorName(error), *x == (error == cudaSuccess) ? "" : ", wrongly",
              kept ? "" : ", not kept");
}

cudaLaunchAttribute cluster_of(unsigned size) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return attribute;
}

cudaLaunchAttribute cooperative() {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  return attribute;
}

}  // namespace

int main() {
  x = allocate<int>(1);
  int multiprocessors = 0, each = 0;
  CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  attempt("1024 threads", configure(1, 1024));
  attempt("1025 threads", configure(1, 1025));
  attempt("no threads", configure(1, dim3(32, 0, 1)));
  attempt("no blocks", configure(0, 32));
  attempt("65536 rows", configure(dim3(1, 65536, 1), 1));
  attempt("48 KiB", configure(1, 1, 48 << 10));
  attempt("more than 48 KiB", configure(1, 1, (48 << 10) + 1));
  CHECK(cudaFuncSetAttribute(touch, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10));
  attempt("227 KiB, asked for", configure(1, 1, 227 << 10));
  attempt("more than 227 KiB", configure(1, 1, (227 << 10) + 1));
  std::printf("asking for more: %s\n",
              cudaGetErrorName(cudaFuncSetAttribute(touch, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10)));
  static_cast<void>(cudaGetLastError());
  attempt("cluster of 4", configure(8, 32), cluster_of(4));
  attempt("cluster of 3 in 8", configure(8, 32), cluster_of(3));
  attempt("cluster of 16", configure(16, 32), cluster_of(16));
  CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, touch, 512, 100 << 10));
  std::printf("%d blocks of 512 threads and 100 KiB\n", each);
  const unsigned most = unsigned(multiprocessors * each);
  attempt("cooperative, as many as fit", configure(most, 512, 100 << 10), cooperative());
  attempt("cooperative, one more", configure(most + 1, 512, 100 << 10), cooperative());
}
