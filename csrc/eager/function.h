// A layer's call under autograd: what engine/function.py does for every layer in Python, in a tenth of the time.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include "kind.h"

namespace fusednorm {

// y, with its place in the graph where a gradient is wanted, and what else norm_forward returns.
Forward call(const LayerKind& kind, const Tensor& x, const Optional& residual, const Own& own);

// (number, dy, x, residual, mask, has_residual, tensors, needed) -> gradients that are differentiable themselves.
void differentiate_by(pybind11::object function);

}  // namespace fusednorm
