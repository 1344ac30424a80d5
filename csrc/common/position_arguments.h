// What the kernels of layers that know a value per position are told (docs/positions.md): plain structs.
// Values per position are dense (N, S) arrays of the compute type, positions in row-major order; null where absent.
#pragma once

#include "arguments.h"

namespace fusednorm {

// f(d), d = x - center: d, |d|, d². The names of the operators' argument `kind`.
enum class Kind { sum, abs, square };

// t[n,s] = sum_c weight f(d)
struct PositionReduceArgs {
  Shape shape;
  Kind kind;
  Operand x;
  PerPlane center, weight;
  void* t;
};

// pooled[n,c] = sum_s q f(d),  slope[n,c] = sum_s q f'(d)
struct PlanePoolArgs {
  Shape shape;
  Kind kind;
  Operand x;
  PerPlane center;
  const void* q;
  PerPlane pooled, slope;  // slope: null for a sum
};

// e = scale*(x - center) + shift + outer*t;  outer and t are both there or both absent
struct Standardized {
  PerPlane center, scale, shift, outer;
  const void* t = nullptr;
};

// mean and biased variance over channels of e
struct PositionMomentsArgs {
  Shape shape;
  Operand x;
  Standardized e;
  void *mean, *var;
};

// Of moments over channels: what Python calls spatial_mean and spatial_std.
enum class Statistic { mean, deviation };

// What kernels that are two in one are told beside: in how many blocks a GPU keeps a sample.
struct PositionMomentsPoolArgs {
  Shape shape;
  Operand x;
  PerPlane center;
  Statistic statistic;
  int64_t blocks;
  void *mean, *var;
  PerPlane cov;
};

// The affine family: position_affine, _reduce, _spread and _grad.
constexpr int kMaxOuters = 3;

struct PositionAffineArgs {
  Shape shape;
  Act act;
  Operand x, residual, dy, y;  // y is the output of whichever kernel: y, g or dx
  Standardized e;
  PerPlane gain, bias;
  // q = R(gate_weight*u + gate_bias); without u it is 1, and the three are absent together
  Restrict restrict_ = Restrict::sigmoid;
  PerPlane gate_weight, gate_bias;
  const void* u = nullptr;
  // backward: de = gain*g*q + e_offset + e_slope*e, the two together or not at all
  const void *e_offset = nullptr, *e_slope = nullptr;
  // position_affine_reduce: dense (7, N, C), sums of de, de*d, de*t, g*e*q, g, da, da*u; 0 where t or u is absent
  void* sums = nullptr;
  // position_affine_spread: du where u is, dt where t is; dt = sum_c outer*de + pool*d, pool may be absent
  void *du = nullptr, *dt = nullptr;
  PerPlane pool;
  // position_affine_spread_reduce: e_offset and e_slope are du times these
  const void *du_offset = nullptr, *du_slope = nullptr;
  // position_moments_affine: u is this of e's moments over channels
  Statistic statistic = Statistic::mean;
  void *mean = nullptr, *var = nullptr;
  int64_t blocks = 1;  // of those that are two in one: in which a GPU keeps a sample
  // position_affine_grad: scale*de + (a*d + b) + sum_j outers[j]*rows[j] + (weight*h*f'(d)), pairs together or absent
  PerPlane a, b;
  int outer_count = 0;
  PerPlane outers[kMaxOuters];
  const void* rows[kMaxOuters] = {};
  PerPlane weight;
  const void* h = nullptr;
  Kind kind = Kind::sum;
};

}  // namespace fusednorm
