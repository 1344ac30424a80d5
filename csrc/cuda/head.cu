// The head between two streaming passes as one kernel per direction (docs/engine.md), and the merging of segments.
// Traffic: a few sweeps over N×C and K×C values, nearly all in L2: time is latency, so the team is as large as the
// steps between two syncs have work for, and syncs as near as that allows.
#include "any_head.h"
#include "head.cuh"
#include "head.h"
#include "head_units.cuh"
#include "partials.cuh"

namespace fusednorm {

namespace {

// scale = Gamma r, shift = Beta + scale (m - mu).
template <class A>
__global__ void __launch_bounds__(kBlock, 1)
    head_kernel(const __grid_constant__ HeadArgs k, const __grid_constant__ Partials partials,
                const __grid_constant__ HeadScratch<A> s, Units units, Scope scope, int cluster) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(scope, cluster);
  const Unit unit = unit_of(k, units);
  if (partials.segments > 1) {
    merge_moments(partials, out<double>(k.mean), out<A>(k.v), unit, team);
    team.sync();
  }
  head_forward(k, s, unit, team, shared_bytes);
}

// a = 2 dvar/S, b = dmean/S, and the parameters' gradients.
template <class A>
__global__ void __launch_bounds__(kBlock, 1)
    head_grad_kernel(const __grid_constant__ HeadGradArgs to, const __grid_constant__ Partials partials,
                     const __grid_constant__ HeadScratch<A> s, Units units, Scope scope, int cluster) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(scope, cluster);
  const Unit unit = unit_of(to.head, units);
  if (partials.segments > 1) {
    merge_sums(partials, out<A>(to.dshift), out<A>(to.dscale), unit, team);
    team.sync();
  }
  head_backward_maps(to, s, unit, team, shared_bytes);
  if (units == Units::all) {
    team.sync();
    head_backward_parameters(to, s, team, shared_bytes);
  } else if (!to.head.needs_moments()) {
    affine_parameters(to, s, unit, team, shared_bytes);
  }
}

// Sums over samples: any number of blocks, with tiles of 32 channels each.
template <class A>
__global__ void __launch_bounds__(kBlock, 1)
    head_grad_parameters_kernel(const __grid_constant__ HeadGradArgs to, const __grid_constant__ HeadScratch<A> s) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  head_backward_parameters(to, s, loose_team(), shared_bytes);
}

// A thread a plane.
template <class A>
__global__ void __launch_bounds__(256)
    merge_moments_kernel(const __grid_constant__ Partials partials, double* mean, A* var) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  merge_moments(partials, mean, var, {0, partials.N, 0, partials.C}, loose_team());
}

template <class A>
__global__ void __launch_bounds__(256)
    merge_sums_kernel(const __grid_constant__ Partials partials, A* dshift, A* dscale) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  merge_sums(partials, dshift, dscale, {0, partials.N, 0, partials.C}, loose_team());
}

Launch merge_launch(const char* name, const Partials& p) { return {name, (p.N * p.C + 255) / 256, 256}; }

}  // namespace

void head(const HeadArgs& k, const Partials& partials, void* scratch, const Stream& s) {
  const Units units = !looks_at_batch(k) ? Units::samples : channel_by_channel(k) ? Units::tiles : Units::all;
  const Work work = work_of("head", k, units, s);
  if (any_pair(k)) return any_head(k, partials, scratch, work, s);
  with_compute_type(k.f64, [&](auto a) {
    using A = decltype(a);
    launch(work.launch, s, head_kernel<A>, k, partials, head_scratch<A>(k, false, scratch), work.units, work.scope,
           work.launch.cluster);
  });
}

void head_grad(const HeadGradArgs& to, const Partials& partials, void* scratch, const Stream& s) {
  const HeadArgs& k = to.head;
  if (!k.needs_moments() && !head_has_parameters(to)) return;
  const Units units = channel_by_channel(k) ? Units::tiles : head_has_parameters(to) ? Units::all : Units::samples;
  const Work work = work_of("head_grad", k, units, s);
  if (any_pair(k)) return any_head_grad(to, partials, scratch, work, s);
  with_compute_type(k.f64, [&](auto a) {
    using A = decltype(a);
    launch(work.launch, s, head_grad_kernel<A>, to, partials, head_scratch<A>(k, true, scratch), work.units, work.scope,
           work.launch.cluster);
  });
}

void head_grad_parameters(const HeadGradArgs& to, void* scratch, const Stream& s) {
  const HeadArgs& k = to.head;
  Launch l{"head_grad_parameters", sums(k), band_threads(k)};
  l.shared = size_t(head_shared_bytes(l.block));
  with_compute_type(k.f64, [&](auto a) {
    using A = decltype(a);
    launch(l, s, head_grad_parameters_kernel<A>, to, head_scratch<A>(k, true, scratch));
  });
}

void merge_moments(const Partials& partials, double* mean, void* var, bool f64, const Stream& s) {
  with_compute_type(f64, [&](auto a) {
    using A = decltype(a);
    launch(merge_launch("merge_moments", partials), s, merge_moments_kernel<A>, partials, mean, static_cast<A*>(var));
  });
}

void merge_sums(const Partials& partials, void* dshift, void* dscale, bool f64, const Stream& s) {
  with_compute_type(f64, [&](auto a) {
    using A = decltype(a);
    launch(merge_launch("merge_sums", partials), s, merge_sums_kernel<A>, partials, static_cast<A*>(dshift),
           static_cast<A*>(dscale));
  });
}

int compiled_for() {
#ifdef FUSEDNORM_EMULATION
  return 9;
#else
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, merge_sums_kernel<float>) == cudaSuccess) return attributes.ptxVersion / 10;
  cudaGetLastError();  // not an error of ours, and not to be found by who looks next
  return 0;
#endif
}

}  // namespace fusednorm
