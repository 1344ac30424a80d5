// A kind of layer, and its operators (layer.h) on a call's tensors: straight to the CPU's kernels, through the
// dispatcher to any other backend's.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../layer.h"

namespace fusednorm {

// The schemas of fusednorm/engine/operators.py, as types.
constexpr size_t kTensors = 15, kGradients = 11;
using Scalars = std::tuple<int64_t, int64_t, int64_t, bool, bool, double, int64_t, int64_t, int64_t, double, double>;
using Forward = LayerOperators<void>::Forward;
using Backward = LayerOperators<void>::Backward;

template <class Types = LayerTypes>
struct Signatures;
template <class... L>
struct Signatures<std::tuple<L...>> {
  using Forward = fusednorm::Forward(Tensor, Optional, L..., std::string, bool);
  using Backward = fusednorm::Backward(Tensor, Tensor, Optional, Optional, Tensor, Tensor, Tensor, Tensor, Tensor, L...,
                                       std::string, bool, bool);
};

// A layer's own tensors, in its head's order.
using Own = std::vector<Optional>;

// What backward needs besides the layer's own tensors. z: the attention's; undefined where absent.
struct Saved {
  Tensor x, residual, mask, mean, var, scale, shift, z;
};

// Everything about a call but its tensors.
class LayerKind {
 public:
  // places: of the schema's tensors, where among the layer's each is, or -1. gradients: of the layer's tensors, which
  // of the schema's gradients is its, or -1. masked: whether its activation keeps a mask where there is a residual,
  // else the residual itself. number: what Python knows it by.
  LayerKind(const std::string& backend, std::vector<int64_t> places, std::vector<int64_t> gradients, Scalars scalars,
            std::string act, bool masked, int64_t number);

  Forward forward(const Tensor& x, const Optional& residual, const Own& own, bool save_mask) const;
  // The gradients of x, the residual and the layer's own; needed likewise. dx may take dy's place, if nobody else holds
  // that.
  std::vector<Tensor> backward(const Tensor& dy, const Saved& saved, const Own& own,
                               const std::vector<bool>& needed) const;

  size_t tensors() const { return gradients_.size(); }  // the layer's own, present or not

  const std::string act;
  const bool masked;
  const int64_t number;

 private:
  std::array<Optional, kTensors> parameters(const Own& own) const;

  bool cpu_;
  c10::TypedOperatorHandle<Signatures<>::Forward> forward_;
  c10::TypedOperatorHandle<Signatures<>::Backward> backward_;
  std::vector<int64_t> places_, gradients_;
  Scalars scalars_;
};

}  // namespace fusednorm
