// norm_forward_resident: moments, head and y of what a team keeps in shared memory; resident.h.
//   m, v of its planes -> scale, shift -> y = act(scale*(x - m) + shift + residual)
// Traffic: reads x (and residual), writes y: 2 units (3). Launch: blocks of 256 or 512 threads, a team for each unit.
#include "head.cuh"
#include "plane_affine.cuh"
#include "plane_moments.cuh"
#include "resident.cuh"

#include "dispatch.cuh"
#include "tuning.h"

namespace fusednorm {

namespace {

// Functions of their own, or the registers they take would be taken from the passes around them.
__device__ __noinline__ void head_of_unit(const HeadArgs& head, const HeadScratch<float>& scratch, Unit unit,
                                          Team team) {
  head_forward(head, scratch, unit, team, shared_bytes);
}

}  // namespace

template <class T, Acts acts>
__global__ void __launch_bounds__(tuning::resident_forward_threads(acts == Acts::smooth), 1)
    norm_forward_resident_kernel(const __grid_constant__ Resident r, const __grid_constant__ AffineArgs k,
                                 const __grid_constant__ MomentsOut out, const __grid_constant__ HeadArgs head,
                                 const __grid_constant__ HeadScratch<float> scratch) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const Team team = team_of(r.scope, r.cluster);
  const Unit unit = unit_of_team(r, k.shape);
  each_resident_item<T>(r, k.shape, unit, team, k.x, 1, [&](const auto& item, uint4* places, int ragged) {
    moments_item<true>(r.walk, k.shape, k.x, item, out, shared_bytes, places, ragged);
  });
  team.sync();
  if (out.partials.segments > 1) {
    merge_moments(out.partials, static_cast<double*>(out.mean.data), static_cast<float*>(out.var.data), unit, team);
    team.sync();
  }
  head_of_unit(head, scratch, unit, team);
  team.sync();
  each_resident_item<T>(r, k.shape, unit, team, k.x, 1, [&](const auto& item, uint4* places, int ragged) {
    affine_item<acts, true>(r.walk, k, item, shared_bytes, places, ragged);
  });
}

void norm_forward_resident(const Resident& r, const AffineArgs& k, const HeadArgs& head, const Partials& partials,
                           void* scratch, const Stream& s) {
  const int64_t C = k.shape.C;
  const MomentsOut out{{const_cast<double*>(head.mean), C, 1}, {const_cast<void*>(head.v), C, 1}, partials};
  Launch l{"norm_forward_resident", r.blocks(), r.walk.threads(), r.bytes()};
  l.cooperative = r.scope == Scope::grid;
  l.cluster = r.scope == Scope::cluster ? r.cluster : 1;
  with_resident_kernel(k, [&](auto type, auto acts) {
    launch(l, s, norm_forward_resident_kernel<decltype(type), acts>, r, k, out, head,
           head_scratch<float>(head, false, scratch));
  });
}

int largest_cluster(const Stream& s) {
  if (s.major < 9) return 1;
  const auto kernel = norm_forward_resident_kernel<float, Acts::relu_like>;
  if (s.shared > kSharedByDefault)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(s.shared)), "largest_cluster");
  for (unsigned size = 8; size > 1; size /= 2) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = size;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(size, 1, 1);
    config.blockDim = dim3(unsigned(tuning::resident_forward_threads(false)), 1, 1);
    config.dynamicSmemBytes = s.shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) == cudaSuccess && clusters > 0) return int(size);
    cudaGetLastError();
  }
  return 1;
}

}  // namespace fusednorm
