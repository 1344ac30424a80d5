// From torch's tensors to what the kernels take, on any device. Checks are Python's (fusednorm/engine); here only what would make
// a kernel read out of bounds.
#pragma once

#include "common/arguments.h"
#include "torch_api.h"

namespace fusednorm {

Act act_of(const std::string& name);

// The element type of the N×C tensors that belong to x.
ScalarType compute_type(const Tensor& x);

Shape shape_of(const Tensor& x);

// t as the kernels walk it; it must have x's sizes and type.
Operand operand(const Tensor& t, const Tensor& x, const char* name);
Operand operand(const std::optional<Tensor>& t, const Tensor& x, const char* name);

// An N×C tensor; it must have x's first two sizes, and x's compute type (a mean is double).
PerPlane means(const Tensor& t, const Tensor& x, const char* name);
PerPlane per_plane(const Tensor& t, const Tensor& x, const char* name);
PerPlane per_plane(const std::optional<Tensor>& t, const Tensor& x, const char* name);

// The mask that belongs to x, null where there is none.
uint8_t* mask_data(const std::optional<Tensor>& mask, const Tensor& x);

// The memory of a dense tensor of so many values.
void* dense_data(const Tensor& t, int64_t count, ScalarType type, const char* name);

// New tensors.
Tensor new_rows(const Tensor& x, int64_t rows, int64_t columns, ScalarType type);
Tensor new_per_plane(const Tensor& x);
Tensor new_means(const Tensor& x);
Tensor new_mask(const Tensor& x);
Tensor nothing(const Tensor& x, ScalarType type);

}  // namespace fusednorm
