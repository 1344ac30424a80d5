// Which instruction set's kernels this processor runs.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace fusednorm {

namespace {

const KernelTable& choose() {
  const char* asked = std::getenv("FUSEDNORM_CPU_ISA");
  if (asked && std::strcmp(asked, "baseline") && std::strcmp(asked, "avx2") && std::strcmp(asked, "avx512"))
    throw std::invalid_argument(std::string("FUSEDNORM_CPU_ISA: expected baseline, avx2 or avx512, got ") + asked);
  auto allowed = [&](const char* name) { return asked == nullptr || std::strcmp(asked, name) == 0; };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) return avx512_kernels;
  if (avx2 && (allowed("avx2") || allowed("avx512"))) return avx2_kernels;
#endif
  return baseline_kernels;
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace fusednorm
