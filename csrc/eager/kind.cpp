#include "kind.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/record_function.h>

#include "../cpu/operators.h"

namespace fusednorm {

namespace {

template <class Signature>
c10::TypedOperatorHandle<Signature> find(const char* name, const std::string& backend) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string("fusednorm::") + name).c_str(), backend.c_str())
      .typed<Signature>();
}

// Whether this is the last that is seen of a gradient: the engine has handed it over, nobody looks at its memory, and
// that is torch's own.
bool only_ours(const Tensor& dy) {
  return dy.use_count() == 1 && dy.storage().use_count() == 1 && dy.storage().resizable() && !dy.is_inference() &&
         !dy.requires_grad();
}

// Whether its memory may be that of a map like x: dense, so that no other value is in it.
bool takes_place(const Tensor& dy, const Tensor& x) {
  return dy.scalar_type() == x.scalar_type() && dy.is_non_overlapping_and_dense() && x.is_non_overlapping_and_dense() &&
         dy.strides() == x.strides();
}

Optional there(const Tensor& t) { return t.defined() ? Optional(t) : std::nullopt; }

}  // namespace

LayerKind::LayerKind(const std::string& backend, std::vector<int64_t> places, std::vector<int64_t> gradients,
                     Scalars scalars, std::string act, bool masked, int64_t number)
    : act(std::move(act)),
      masked(masked),
      number(number),
      cpu_(backend == "cpu"),
      forward_(find<Signatures<>::Forward>("norm_forward", backend)),
      backward_(find<Signatures<>::Backward>("norm_backward", backend)),
      places_(std::move(places)),
      gradients_(std::move(gradients)),
      scalars_(scalars) {
  TORCH_CHECK_VALUE(places_.size() == kTensors, "places: expected ", kTensors, ", got ", places_.size());
}

std::array<Optional, kTensors> LayerKind::parameters(const Own& own) const {
  std::array<Optional, kTensors> found;
  for (size_t i = 0; i < kTensors; ++i)
    if (places_[i] >= 0) found[i] = own[size_t(places_[i])];
  return found;
}

Forward LayerKind::forward(const Tensor& x, const Optional& residual, const Own& own, bool save_mask) const {
  at::AutoDispatchBelowADInplaceOrView guard;
  return std::apply(
      [&](auto... arguments) {
        if (!cpu_) return forward_.call(x, residual, std::move(arguments)..., act, save_mask);
        RECORD_FUNCTION("fusednorm::norm_forward", c10::ArrayRef<const c10::IValue>{});
        return LayerOperators<Cpu>::norm_forward(x, residual, std::move(arguments)..., act, save_mask);
      },
      std::tuple_cat(parameters(own), scalars_));
}

std::vector<Tensor> LayerKind::backward(const Tensor& dy, const Saved& s, const Own& own,
                                        const std::vector<bool>& needed) const {
  at::AutoDispatchBelowADInplaceOrView guard;
  const bool write_g = needed[1] && act != "identity";
  const Backward found = std::apply(
      [&](auto... arguments) {
        if (!cpu_)
          return backward_.call(dy, s.x, there(s.residual), there(s.mask), s.mean, s.var, s.scale, s.shift, s.z,
                                std::move(arguments)..., act, needed[0], write_g);
        RECORD_FUNCTION("fusednorm::norm_backward", c10::ArrayRef<const c10::IValue>{});
        const bool dy_is_dresidual = needed[1] && !write_g;
        const bool reuse = !dy_is_dresidual && only_ours(dy) && takes_place(dy, s.x);
        const Tensor dx = !needed[0] ? Tensor() : reuse ? dy : make_like(s.x);
        return LayerOperators<Cpu>::backward_into(dx, dy, s.x, there(s.residual), there(s.mask), s.mean, s.var, s.scale,
                                                  s.shift, s.z, Layer{std::move(arguments)...}, act, needed[0],
                                                  write_g);
      },
      std::tuple_cat(parameters(own), scalars_));
  const auto all = std::apply([](const auto&... t) { return std::array<Tensor, 2 + kGradients>{t...}; }, found);
  std::vector<Tensor> result(2 + own.size());
  if (needed[0]) result[0] = all[0];
  if (needed[1]) result[1] = write_g ? all[1] : dy;
  for (size_t i = 0; i < own.size(); ++i) {
    if (!needed[2 + i] || gradients_[i] < 0) continue;
    const Tensor& gradient = all[2 + size_t(gradients_[i])];
    const auto type = own[i]->scalar_type();
    result[2 + i] = gradient.scalar_type() == type ? gradient : gradient.to(type);
  }
  return result;
}

}  // namespace fusednorm
