// The head between two streaming passes as one kernel per direction (docs/engine.md), and the merging of segments.
// Traffic: a few sweeps over N×C and K×C values, nearly all in L2: time is latency, so the team is as large as the
// steps between two syncs have work for, and syncs as near as that allows.
#include <algorithm>

#include "head.cuh"
#include "head.h"
#include "partials.cuh"

namespace fusednorm {

namespace {

constexpr int kBlock = 512;  // threads at most: up to 128 registers, for the loads under way
constexpr int kCluster = 8;  // the largest that every sm_90 and sm_100 device can have

// What a team does alone: everything; or, a block each, 32 channels of all samples, or a sample.
enum class Units : int { all, tiles, samples };

struct Work {
  Units units;
  Scope scope;
  Launch launch;
};

int64_t tiles(const HeadArgs& k) { return (k.C + 31) / 32; }

// What attentive_parameters and affine_parameters divide their work into.
int64_t sums(const HeadArgs& k) { return tiles(k) * std::max<int64_t>(1, (k.K + 3) / 4); }

// Threads for a band of 32 channels: a warp for four samples, the loads that it has under way at a time.
int band_threads(const HeadArgs& k) {
  int threads = 64;
  while (threads < kBlock && threads / 32 * 8 <= k.N) threads *= 2;
  return threads;
}

Work work_of(const char* name, const HeadArgs& k, Units units, const Stream& s) {
  Work work{units, Scope::block, {name, 1, kBlock}};
  Launch& l = work.launch;
  if (units == Units::tiles) {
    l.grid = tiles(k);
    l.block = band_threads(k);
  } else if (units == Units::samples) {
    l.grid = k.N;
    if (k.K == 0) l.block = k.C <= 64 ? 64 : k.C <= 128 ? 128 : 256;
  } else {
    // Between two syncs a thread waits for L2 three times, some 2000 cycles, for each of its planes; 32 components take
    // as long. A grid's sync takes as long too, a cluster's a tenth. So: four planes a thread, then more blocks.
    // Estimates.
    const int64_t values = k.N * k.C * (32 + k.K) / 32;
    if (values > 4 * kBlock) {
      if (s.cluster >= kCluster && values <= 4 * kBlock * kCluster) {
        work.scope = Scope::cluster;
        l.grid = l.cluster = kCluster;
      } else {
        work.scope = Scope::grid;
        l.grid = std::min<int64_t>(s.sms, std::max({k.N, k.N * k.C / kBlock, sums(k)}));
        l.cooperative = true;
      }
    }
  }
  l.shared = size_t(head_shared_bytes(l.block));
  return work;
}

__device__ Unit unit_of(const HeadArgs& k, Units units) {
  const int64_t u = blockIdx.x;
  if (units == Units::tiles) return {0, k.N, u * 32, min(u * 32 + 32, k.C)};
  if (units == Units::samples) return {u, u + 1, 0, k.C};
  return {0, k.N, 0, k.C};
}

// The blocks of a grid that never sync.
__device__ Team loose_team() { return {Scope::grid, int(blockIdx.x), int(gridDim.x)}; }

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

// f(A{}) with the compute type.
template <class F>
void with_compute_type(bool f64, F f) {
  f64 ? f(double{}) : f(float{});
}

}  // namespace

void head(const HeadArgs& k, const Partials& partials, void* scratch, const Stream& s) {
  const bool alone = k.K == 0 || (k.groups != 0 && !norm_over_batch(k));
  const Work work = work_of("head", k, !alone ? Units::all : k.groups == 0 ? Units::tiles : Units::samples, s);
  with_compute_type(k.f64, [&](auto a) {
    using A = decltype(a);
    launch(work.launch, s, head_kernel<A>, k, partials, head_scratch<A>(k, false, scratch), work.units, work.scope,
           work.launch.cluster);
  });
}

void head_grad(const HeadGradArgs& to, const Partials& partials, void* scratch, const Stream& s) {
  const HeadArgs& k = to.head;
  if (!k.needs_moments() && !head_has_parameters(to)) return;
  const bool tiles = k.K == 0 && k.groups <= 0;
  const Work work = work_of("head_grad", k,
                            tiles                     ? Units::tiles
                            : head_has_parameters(to) ? Units::all
                                                      : Units::samples,
                            s);
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
