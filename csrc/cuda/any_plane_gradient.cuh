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

}  // namespace fusednorm
