// Shuffles with widths, and votes. FAULT 1: the mask names lanes that go another way; 2: it leaves out the caller.
#include "sample.h"

#ifndef FAULT
#define FAULT 0
#endif

constexpr int kRows = 12;

__device__ unsigned evens_only(unsigned lane) {
  const unsigned mask = FAULT == 1 ? 0xffffffffu : FAULT == 2 ? 0xaaaaaaaau : 0x55555555u;
  return lane % 2 == 0 ? __ballot_sync(mask, lane < 8) : 0u;
}

__global__ void rows(long long* result) {
  constexpr unsigned all = 0xffffffffu;
  const int lane = int(threadIdx.x);
  const auto put = [&](int row, long long value) { result[row * 32 + lane] = value; };
  put(0, __ballot_sync(all, lane % 3 == 0));
  put(1, __any_sync(all, lane == 31));
  put(2, __all_sync(all, lane < 31));
  put(3, __shfl_sync(all, lane, 5));
  put(4, __shfl_sync(all, lane, 9, 8));
  put(5, __shfl_xor_sync(all, unsigned(lane), 3));
  put(6, __shfl_xor_sync(all, lane * 1000000000000LL, 12, 8));
  put(7, static_cast<long long>(__shfl_up_sync(all, lane + 0.5f, 3, 16) * 2));
  put(8, static_cast<long long>(__shfl_down_sync(all, lane + 0.25, 5, 8) * 4));
  put(9, evens_only(unsigned(lane)));
  put(10, __popc(unsigned(lane)) + 100 * __ffs(lane) + 10000 * __clz(lane));
  put(11, __brev(unsigned(lane)));
  __syncwarp();
}

int main() {
  long long* result = allocate<long long>(kRows * 32);
  launch(configure(1, 32), rows, result);
  for (int row = 0; row < kRows; ++row)
    for (int lane = 0; lane < 32; ++lane) std::printf("%lld%c", result[row * 32 + lane], lane == 31 ? '\n' : ' ');
}
