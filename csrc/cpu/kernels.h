// What the rest of the extension sees of the CPU kernels: one table of functions per instruction set.
#pragma once

#include "../common/context_arguments.h"
#include "../common/position_arguments.h"
#include "spatial_arguments.h"

namespace fusednorm {

struct KernelTable {
  const char* name;
  void (*head)(const HeadArgs&);
  void (*head_grad)(const HeadGradArgs&);
  void (*plane_moments)(const MomentsArgs&);
  void (*plane_affine)(const AffineArgs&);
  void (*plane_affine_reduce)(const AffineArgs&);
  void (*plane_affine_grad)(const AffineArgs&);
  void (*position_reduce)(const PositionReduceArgs&);
  void (*plane_pool)(const PlanePoolArgs&);
  void (*position_moments)(const PositionMomentsArgs&);
  void (*position_moments_pool)(const PositionMomentsPoolArgs&);
  void (*position_affine)(const PositionAffineArgs&);
  void (*position_affine_reduce)(const PositionAffineArgs&);
  void (*position_affine_spread)(const PositionAffineArgs&);
  void (*position_affine_spread_reduce)(const PositionAffineArgs&);
  void (*position_affine_grad)(const PositionAffineArgs&);
  void (*context_inner)(const ContextArrays&);
  void (*context_weights)(const ContextArrays&);
  void (*context_gates)(const ContextArrays&);
  void (*context_gates_grad)(const ContextArrays&);
  void (*context_weights_grad)(const ContextArrays&);
  void (*context_inner_grad)(const ContextArrays&);
  void (*spatial_step)(SpatialStep, const SpatialArrays&);
};

// The best table that this processor runs (FUSEDNORM_CPU_ISA=baseline|avx2|avx512 asks for a lesser one).
const KernelTable& kernels();

extern const KernelTable baseline_kernels;
extern const KernelTable avx2_kernels;
extern const KernelTable avx512_kernels;

// body(context, begin, end) over [0, items), split among torch's own threads; `elements` is the work of one item.
void parallel(int64_t items, int64_t elements, void (*body)(void* context, int64_t begin, int64_t end), void* context);

}  // namespace fusednorm
