// norm_backward_resident: the sums, the head's way back and dx of what a team keeps in shared memory; resident.h.
//   dshift = sum_s g, dscale = sum_s g*(x - m) -> a, b -> dx = scale*g + a*(x - m) + b;  dresidual = g
// Traffic: reads dy, x (and the mask, or twice the residual), writes dx (and dresidual): 3 units (4).
// Launch: blocks of 256 or 512 threads, a team for each unit.
#include "head.cuh"
#include "plane_affine_grad.cuh"
#include "resident.cuh"

#include "dispatch.cuh"
#include "tuning.h"

namespace fusednorm {

namespace {

// Functions of their own, or the registers they take would be taken from the passes around them.
__device__ __noinline__ void maps_of_unit(const HeadGradArgs& to, const HeadScratch<float>& scratch, Unit unit,
                                          Team team) {
  head_backward_maps(to, scratch, unit, team, shared_bytes);
}

__device__ __noinline__ void parameters_of_all(const HeadGradArgs& to, const HeadScratch<float>& scratch, Team team) {
  head_backward_parameters(to, scratch, team, shared_bytes);
}

}  // namespace

template <class T, Acts acts>
__global__ void __launch_bounds__(tuning::resident_backward_threads(acts == Acts::smooth, sizeof(T)), 1)
    norm_backward_resident_kernel(const __grid_constant__ Resident r, const __grid_constant__ AffineArgs k,
                                  const __grid_constant__ Partials partials, const __grid_constant__ HeadGradArgs to,
                                  const __grid_constant__ HeadScratch<float> scratch, bool parameters) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(r.scope, r.cluster);
  const Unit unit = unit_of_team(r, k.shape);
  each_resident_item<T>(r, k.shape, unit, team, k.x, 2, [&](const auto& item, uint4* places, int ragged) {
    reduce_item<acts, true>(r.walk, k, partials, item, shared_bytes, places, ragged);
  });
  team.sync();
  if (partials.segments > 1) {
    merge_sums(partials, static_cast<float*>(k.dshift.data), static_cast<float*>(k.dscale.data), unit, team);
    team.sync();
  }
  maps_of_unit(to, scratch, unit, team);
  team.sync();
  if (parameters) parameters_of_all(to, scratch, team);
  each_resident_item<T>(r, k.shape, unit, team, k.x, 2, [&](const auto& item, uint4* places, int ragged) {
    grad_item<acts, true>(k, item, places, ragged);
  });
}

void norm_backward_resident(const Resident& r, const AffineArgs& k, const HeadGradArgs& to, const Partials& partials,
                            void* scratch, const Stream& s) {
  Launch l{"norm_backward_resident", r.blocks(), r.walk.threads(), r.bytes()};
  l.cooperative = r.scope == Scope::grid;
  l.cluster = r.scope == Scope::cluster ? r.cluster : 1;
  with_resident_kernel(k, [&](auto type, auto acts) {
    launch(l, s, norm_backward_resident_kernel<decltype(type), acts>, r, k, partials, to,
           head_scratch<float>(to.head, true, scratch), r.units == 1);
  });
}

}  // namespace fusednorm
