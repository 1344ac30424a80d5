// What the position_affine kernels make of a step's values (docs/positions.md):
//   z = gain*e*q + bias + residual,  e = scale*(x - center) + shift + outer*t,  q = R(gate_weight*u + gate_bias)
//   g = dy*act'(z),  h = gain*g*q,  da = g*gain*e*R',  de = h + e_offset + e_slope*e
// The switches between activations and between restrictions are outside of small loops over a step's values: one kernel
// knows them all.
#pragma once

#include "affine.cuh"
#include "head_math.cuh"
#include "position_walk.cuh"

namespace fusednorm {

// (1 + tanh a)/2 is sigmoid(2a).
template <class A>
__device__ __forceinline__ A sigmoid_factor(const PositionPass& k) {
  return k.restrict == Restrict::tanh ? A(2) : A(1);
}

template <class A, int count>
struct Affine {
  A d[count], e[count], q[count], z[count];

  template <class T, class Coefficients, class Rows>
  __device__ __forceinline__ Affine(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                    const Raw<T, count>& x, const Raw<T, count>& residual, bool add_residual) {
#pragma unroll
    for (int j = 0; j < count; ++j) {
      d[j] = value_of<T, count>(x, j) - c[kCenter][j];
      e[j] = c[kScale][j] * d[j] + c[kShift][j] + c[kOuter][j] * rows[kT][j];
      q[j] = A(1);
    }
    if (k.rows[kU] && k.restrict == Restrict::hsigmoid)
      gate(Restrict::hsigmoid, A(1), c, rows);
    else if (k.rows[kU])
      gate(Restrict::sigmoid, sigmoid_factor<A>(k), c, rows);
#pragma unroll
    for (int j = 0; j < count; ++j) {
      z[j] = c[kGain][j] * e[j] * q[j] + c[kBias][j];
      if (add_residual) z[j] += value_of<T, count>(residual, j);
    }
  }

  template <class Coefficients, class Rows>
  __device__ __forceinline__ void gate(Restrict kind, A factor, const Coefficients& c, const Rows& rows) {
#pragma unroll
    for (int j = 0; j < count; ++j)
      q[j] = restricted(kind, factor * (c[kGateWeight][j] * rows[kU][j] + c[kGateBias][j]));
  }
};

template <class A, int count>
struct AffineGradient : Affine<A, count> {
  using Base = Affine<A, count>;
  A g[count];

  template <class T, class Coefficients, class Rows>
  __device__ __forceinline__ AffineGradient(const PositionPass& k, const Coefficients& c, const Rows& rows,
                                            const Raw<T, count> (&maps)[3])
      : Base(k, c, rows, maps[1], maps[2], k.maps[2].data != nullptr) {
#pragma unroll
    for (int j = 0; j < count; ++j) g[j] = value_of<T, count>(maps[0], j);
    if (k.act == Act::identity) return;
    with_gradient<Acts::all, A>(k.act, false, [&](auto gradient) {
#pragma unroll
      for (int j = 0; j < count; ++j) g[j] = gradient(g[j], this->z[j], false);
    });
  }

  template <class Coefficients>
  __device__ __forceinline__ A h(const Coefficients& c, int j) const {
    return c[kGain][j] * g[j] * this->q[j];
  }

  // R' is made of q and, once more, of a: kept it would take registers.
  template <class Coefficients, class Rows>
  __device__ __forceinline__ A da(const PositionPass& k, const Coefficients& c, const Rows& rows, int j) const {
    if (k.rows[kU] == nullptr) return A(0);
    const A a = c[kGateWeight][j] * rows[kU][j] + c[kGateBias][j];
    const A slope = k.restrict == Restrict::hsigmoid
                        ? restricted_slope(Restrict::hsigmoid, a, this->q[j])
                        : sigmoid_factor<A>(k) * restricted_slope(Restrict::sigmoid, a, this->q[j]);
    return g[j] * c[kGain][j] * this->e[j] * slope;
  }

  template <class Coefficients, class Rows>
  __device__ __forceinline__ A de(const PositionPass& k, const Coefficients& c, const Rows& rows, int j) const {
    return k.rows[kSlope] ? h(c, j) + rows[kOffset][j] + rows[kSlope][j] * this->e[j] : h(c, j);
  }
};

}  // namespace fusednorm
