// What the steps of csrc/cpu/spatial_steps.h are told.
#pragma once

#include "../common/position_arguments.h"

namespace fusednorm {

// Dense arrays, N×C, N×S where said, of the compute type where not double. What a step writes is there for those after it.
struct SpatialArrays {
  bool f64, batch;  // batch: standardized by the batch's own statistics
  int64_t N, C, S;
  const double* mean;
  const void* var;
  void* center = nullptr;  // the means rounded, the kernels' pivots
  // Centering: x' = x + center_weight*t, t a statistic over channels at each position, t' = t less its mean
  const void* center_weight = nullptr;  // C; null: there is none
  Statistic centering = Statistic::mean;
  const void *t_mean = nullptr, *t_var = nullptr;  // N×S: moments over channels of x
  void* row = nullptr;                             // N×S: t'
  double *level = nullptr, *spread = nullptr;      // N: t's mean and variance over positions
  const void* cov = nullptr;                       // of t with a plane
  double* centred_mean = nullptr;                  // of x', like the next
  void* centred_var = nullptr;
  void *pivot = nullptr, *rest = nullptr;   // of x' at x = center, t = level: rounded, and what that loses
  void *scale = nullptr, *shift = nullptr;  // the head's for x' at its pivot; shift becomes x_hat's
  void* outer = nullptr;
  // Scaling: u a statistic over channels of x_hat
  Statistic scaling = Statistic::mean;
  const void *u_mean = nullptr, *u_var = nullptr;  // N×S: moments over channels of x_hat
  void* u = nullptr;                               // N×S
  void *u_offset = nullptr, *u_slope = nullptr;    // N×S: its derivative by an element e, offset + slope*e
  void *e_offset = nullptr, *e_slope = nullptr;    // N×S: du times those
  void* du = nullptr;                              // N×S
  // The way back
  const void* sums = nullptr;                    // position_affine_reduce's, (7, N, C)
  void* dscale = nullptr;                        // of the head
  const void *a = nullptr, *b = nullptr;         // the head's, null where nothing flows through the moments
  double *dlevel = nullptr, *dspread = nullptr;  // N
  double* middle = nullptr;                      // N: center's mean over channels
  void* pool = nullptr;                          // dcov/S
  void* drow = nullptr;                  // N×S: of t', then of t at an element, as rows[0] of position_affine_grad
  void *h = nullptr, *offset = nullptr;  // N×S: of a deviation: half of its slope, and what is of no element
  void* away = nullptr;                  // center less middle
  void *dweight = nullptr, *dbias = nullptr, *dcenter_weight = nullptr, *dgate_weight = nullptr, *dgate_bias = nullptr;
};

enum class SpatialStep { pivots, row, planes, outer, u, slopes, through_u, cotangents, centering, row_grad };

}  // namespace fusednorm
