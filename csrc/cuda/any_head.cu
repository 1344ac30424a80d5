// The head of any pair of parts as one kernel per direction, between two streaming passes; as head.cu's kernels.
#include "any_forward.cuh"
#include "any_head.h"
#include "any_parameters.cuh"
#include "head_units.cuh"
#include "partials.cuh"

namespace fusednorm {

namespace {

template <class A>
__global__ void __launch_bounds__(kBlock, 1)
    any_head_kernel(const __grid_constant__ HeadArgs k, const __grid_constant__ Partials partials,
                    const __grid_constant__ HeadScratch<A> s, Units units, Scope scope, int cluster) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(scope, cluster);
  const Unit unit = unit_of(k, units);
  if (partials.segments > 1) {
    merge_moments(partials, out<double>(k.mean), out<A>(k.v), unit, team);
    team.sync();
  }
  any_head_forward(k, s, unit, team, shared_bytes);
}

template <class A>
__global__ void __launch_bounds__(kBlock, 1)
    any_head_grad_kernel(const __grid_constant__ HeadGradArgs to, const __grid_constant__ Partials partials,
                         const __grid_constant__ HeadScratch<A> s, Units units, Scope scope, int cluster) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(scope, cluster);
  const Unit unit = unit_of(to.head, units);
  if (partials.segments > 1) {
    merge_sums(partials, out<A>(to.dshift), out<A>(to.dscale), unit, team);
    team.sync();
  }
  any_head_backward_maps(to, s, unit, team, shared_bytes);
  team.sync();
  any_head_backward_parameters(to, s, unit, team, shared_bytes);
}

}  // namespace

void any_head(const HeadArgs& k, const Partials& partials, void* scratch, const Work& work, const Stream& s) {
  with_compute_type(k.f64, [&](auto a) {
    using A = decltype(a);
    launch(work.launch, s, any_head_kernel<A>, k, partials, head_scratch<A>(k, false, scratch), work.units, work.scope,
           work.launch.cluster);
  });
}

void any_head_grad(const HeadGradArgs& to, const Partials& partials, void* scratch, const Work& work, const Stream& s) {
  with_compute_type(to.head.f64, [&](auto a) {
    using A = decltype(a);
    launch(work.launch, s, any_head_grad_kernel<A>, to, partials, head_scratch<A>(to.head, true, scratch), work.units,
           work.scope, work.launch.cluster);
  });
}

}  // namespace fusednorm
