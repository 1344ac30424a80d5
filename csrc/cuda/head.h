// The head's kernels, for the host. Scratch: head_scratch.h says how much; 16 byte aligned, and for
// head_grad_parameters the one that head_grad or a resident kernel filled.
#pragma once

#include "head_scratch.h"
#include "launch.h"
#include "plan.h"

namespace fusednorm {

// scale, shift, z and the statistics, from the plane moments or the segments' (which go to k.mean and k.v). Running
// statistics and an affine map: writes k.mean and k.v themselves.
void head(const HeadArgs& k, const Partials& partials, void* scratch, const Stream& s);

// a, b and all parameters' gradients, from dscale and dshift or the segments' sums (which go there).
void head_grad(const HeadGradArgs& to, const Partials& partials, void* scratch, const Stream& s);

// The parameters' gradients alone, after a resident kernel that has called head_backward_maps for every sample.
void head_grad_parameters(const HeadGradArgs& to, void* scratch, const Stream& s);

// The compute capability's first number that the kernels for the current device were compiled for: PTX of an older one knows
// neither clusters nor dependent launches. 0: there are none that it can run.
int compiled_for();

// What the plain operators return, of the compute type; means are double.
void merge_moments(const Partials& partials, double* mean, void* var, bool f64, const Stream& s);
void merge_sums(const Partials& partials, void* dshift, void* dscale, bool f64, const Stream& s);

}  // namespace fusednorm
