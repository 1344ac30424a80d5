// Converts a file of floats to both 16-bit types, and all 65536 of each to float; writes them one after another.
#include <fstream>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "sample.h"

__global__ void narrow(const float* x, unsigned short* halves, unsigned short* bfloats, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  halves[i] = __half_as_ushort(__float2half_rn(x[i]));
  bfloats[i] = __bfloat16_as_ushort(__float2bfloat16_rn(x[i]));
}

__global__ void widen(float* halves, float* bfloats) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  halves[i] = __half2float(__ushort_as_half(static_cast<unsigned short>(i)));
  bfloats[i] = __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(i)));
}

template <typename T>
void write(std::ofstream& file, const T* values, size_t n) {
  file.write(reinterpret_cast<const char*>(values), static_cast<std::streamsize>(n * sizeof(T)));
}

int main(int, char** arguments) {
  std::ifstream input(arguments[1], std::ios::binary | std::ios::ate);
  const size_t n = size_t(input.tellg()) / sizeof(float);
  float* x = allocate<float>(n);
  input.seekg(0);
  input.read(reinterpret_cast<char*>(x), static_cast<std::streamsize>(n * sizeof(float)));
  unsigned short* half = allocate<unsigned short>(n);
  unsigned short* bfloat = allocate<unsigned short>(n);
  launch(configure(unsigned((n + 1023) / 1024), 1024), narrow, x, half, bfloat, int(n));
  float* from_half = allocate<float>(65536);
  float* from_bfloat = allocate<float>(65536);
  launch(configure(64, 1024), widen, from_half, from_bfloat);
  std::ofstream output(arguments[2], std::ios::binary);
  write(output, half, n);
  write(output, bfloat, n);
  write(output, from_half, 65536);
  write(output, from_bfloat, 65536);
}
