// The Normalization-Attention module (NA eqs. 4-9; fusednorm/heads/context.py) between its passes: what the CPU's steps are
// told, and names that CUDA shares.
#pragma once

#include "arguments.h"

namespace fusednorm {

// Phi of NA eq. 4, by its name in Python. none: all positions weigh the same.
enum class Similarity { l1, squared, dot, mean_difference, none };

// Dense arrays of the compute type but for the means. What a step writes is there for those after it.
struct ContextArrays {
  bool f64;
  int64_t N, C, S;
  Similarity similarity;
  bool unbiased;
  double eps;
  // z = scale*(x - mu) + shift, C, the three null together: z = x;  1
  const void *mu = nullptr, *scale = nullptr, *shift = nullptr, *gain = nullptr, *offset = nullptr;
  const double* mean;                                              // N×C
  void *center = nullptr, *z_scale = nullptr, *z_shift = nullptr;  // N×C: z = z_scale*(x - center) + z_shift
  void* weight = nullptr;                                          // N×C: of the position sums
  void *t = nullptr, *p = nullptr, *pooled = nullptr;              // N×S, N×S, N×C; null without a similarity
  void *outer_scale = nullptr, *outer_shift = nullptr;             // N×C: of y, around center
  void *dscale = nullptr, *dshift = nullptr;                       // N×C: of outer's, then of z's, then of mu's
  void *dpooled = nullptr, *dm = nullptr;                          // N×C
  void* dt = nullptr;                                              // N×S: dp, then dt
  const void *dw = nullptr, *slope = nullptr;                      // N×C: sum_s dt f(d), sum_s dt f'(d)
  double* dgate = nullptr;                                         // 2×N: of gain and offset
};

}  // namespace fusednorm
