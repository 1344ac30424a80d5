// What the recalibrations of any pair leave of a plane, on the way back.
#pragma once

#include "any_parts.cuh"
#include "head_backward.cuh"

namespace fusednorm {

// What comes of a plane: derivatives by its moments, and by what it is standardized with.
template <class A>
struct PlaneGradient {
  double dmu, dvar;
  A dm = 0, dv = 0;

  __device__ __forceinline__ PlaneGradient(const HeadArgs& k, int64_t plane, const MapGradient<A>& g, A dgamma, A r)
      : dmu(mu_gradient(g.scale, g.dshift)), dvar(var_gradient(dgamma, g.scale, r)) {
    if (k.standardize == Standardize::filter_response)
      dvar = mean_square_gradient(g.scale, g.dscale, g.dshift, g.mean, in<A>(k.v)[plane], k.eps);
  }

  __device__ __forceinline__ void keep(const HeadScratch<A>& s, int64_t plane) const {
    s.plane_dmu[plane] = A(dmu), s.plane_dvar[plane] = A(dvar);
    s.dm[plane] = dm, s.dv[plane] = dv;
  }
};

// From du, by the plane's mean in z = weight x_hat + bias, to its moments; adds to what the parameters get.
template <class A>
__device__ __forceinline__ void mean_of_z_backward(const HeadGradArgs& to, const HeadScratch<A>& s, int64_t plane,
                                                   int c, const Standard<A>& with, A du) {
  const HeadArgs& k = to.head;
  const MapGradient<A> g = map_gradient_at<A>(to, plane);
  PlaneGradient<A> d(k, plane, g, g.dgamma(with), with.r);
  standardized_mean_gradient(du * affine_weight<A>(k, c), g.mean, with.mu, with.r, d.dm, d.dmu, d.dvar);
  s.weight_part[plane] += du * standardized_mean(g.mean, with.mu, with.r);
  s.bias_part[plane] += du;
  d.keep(s, plane);
}

}  // namespace fusednorm
