// A hot layer on a GPU: at most three launches per direction, the passes and the head between them.
#include "device.h"
#include "head.h"
#include "kernels.h"
#include "resident.h"

namespace fusednorm {

void Cuda::forward(ForwardCall& call) {
  const HeadArgs& head = call.head;
  AffineArgs& affine = call.affine;
  void* scratch = memory(head_scratch_bytes(head));
  affine.mean = head.mean;
  if (const auto resident = resident_forward_plan(affine, head, stream_)) {
    norm_forward_resident(*resident, affine, head, partials(affine.shape, resident->walk), scratch, stream_);
    return;
  }
  Partials split;
  if (head.needs_moments()) {
    const Plan plan = plan_moments(call.moments);
    split = partials(affine.shape, plan.walk);
    fusednorm::plane_moments(call.moments, plan, split, stream_);
  }
  fusednorm::head(head, split, scratch, stream_);
  plane_affine(affine);
}

void Cuda::backward(BackwardCall& call) {
  HeadGradArgs& to = call.head;
  void* scratch = memory(head_grad_scratch_bytes(to.head));
  call.affine.mean = to.head.mean;
  if (call.dx.data) {
    const AffineArgs k = call.one_pass();
    if (const auto resident = resident_backward_plan(k, to.head, stream_)) {
      norm_backward_resident(*resident, k, to, partials(k.shape, resident->walk), scratch, stream_);
      if (resident->units > 1 && head_has_parameters(to)) head_grad_parameters(to, scratch, stream_);
      return;
    }
  }
  const AffineArgs reduce = call.reduce_pass();
  const Plan plan = plan_reduce(reduce);
  const Partials split = partials(reduce.shape, plan.walk);
  fusednorm::plane_affine_reduce(reduce, plan, split, stream_);
  head_grad(to, split, scratch, stream_);
  if (call.dx.data) plane_affine_grad(call.grad_pass());
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) {
  m.impl("norm_forward.cuda", TORCH_BOX(&LayerOperators<Cuda>::norm_forward));
  m.impl("norm_forward_inplace.cuda", TORCH_BOX(&LayerOperators<Cuda>::norm_forward_inplace));
  m.impl("norm_backward.cuda", TORCH_BOX(&LayerOperators<Cuda>::norm_backward));
}

}  // namespace fusednorm
