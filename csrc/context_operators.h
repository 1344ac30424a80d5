// What context_forward and context_backward, the Normalization-Attention module as one operator a direction
// (fusednorm/engine/context_operators.py), need on any device.
#pragma once

#include <string>

#include "common/context_arguments.h"
#include "common/position_arguments.h"
#include "tensors.h"

namespace fusednorm {

inline Similarity similarity_of(const std::string& name) {
  if (name == "none") return Similarity::none;
  if (name == "l1") return Similarity::l1;
  if (name == "squared") return Similarity::squared;
  if (name == "dot") return Similarity::dot;
  STD_TORCH_CHECK(name == "mean_difference", "fusednorm: similarity: unknown '", name, "'");
  return Similarity::mean_difference;
}

// f of its position sums t = sum_c weight*f(x - center).
inline Kind kind_of(Similarity similarity) {
  return similarity == Similarity::l1 ? Kind::abs : similarity == Similarity::squared ? Kind::square : Kind::sum;
}

}  // namespace fusednorm
