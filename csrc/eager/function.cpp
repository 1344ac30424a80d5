#include "function.h"

#include <pybind11/stl.h>
#include <torch/csrc/autograd/custom_function.h>

namespace fusednorm {

namespace {

namespace py = pybind11;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Never freed: a graph may outlive the interpreter's modules.
py::object& differentiable_backward() {
  static auto* function = new py::object();
  return *function;
}

// Which tensors a call has: x, the residual and those of the layer's own that are there, in that order.
struct Inputs {
  const LayerKind* kind;
  int64_t given = 0;  // a bit each: the residual, then the layer's own

  Inputs(const LayerKind* kind, int64_t given) : kind(kind), given(given) {}
  bool has_residual() const { return given & 1; }
  bool has(size_t own) const { return given >> (own + 1) & 1; }
  size_t first() const { return 1 + size_t(has_residual()); }  // of the layer's own
};

struct NormFunction : torch::autograd::Function<NormFunction> {
  static Tensor forward(AutogradContext* ctx, const Inputs* inputs, const Own* own, Forward* results,
                        at::TensorList all) {
    const LayerKind& kind = *inputs->kind;
    const Optional residual = inputs->has_residual() ? Optional(all[1]) : std::nullopt;
    const bool mask = residual && kind.masked, keep = residual && !mask && kind.act != "identity";
    *results = kind.forward(all[0], residual, *own, mask);
    auto& [y, packed, mean, var, scale, shift, z, batch_mean, batch_var, z_mean, z_var] = *results;
    variable_list kept{all[0], keep ? *residual : Tensor(), mask ? packed : Tensor(), mean, var, scale, shift, z};
    kept.insert(kept.end(), all.begin() + inputs->first(), all.end());
    ctx->save_for_backward(std::move(kept));
    ctx->saved_data["kind"] = reinterpret_cast<int64_t>(&kind);
    ctx->saved_data["given"] = inputs->given;
    ctx->set_materialize_grads(false);
    return y;
  }

  // grads: by reference, so that the engine's are the only ones.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Inputs inputs(reinterpret_cast<const LayerKind*>(ctx->saved_data["kind"].toInt()),
                        ctx->saved_data["given"].toInt());
    const LayerKind& kind = *inputs.kind;
    const bool has_residual = inputs.has_residual();
    const variable_list kept = ctx->get_saved_variables();
    constexpr size_t others = 3, first = 8;  // forward's arguments that are no variables; of the layer's own in kept
    variable_list result(others + inputs.first() + kept.size() - first);
    if (!grads[0].defined()) return result;
    Own own(kind.tensors());
    std::vector<bool> needed(2 + own.size());
    needed[0] = ctx->needs_input_grad(0);
    needed[1] = has_residual && ctx->needs_input_grad(1);
    for (size_t i = 0, next = 0; i < own.size(); ++i) {
      if (!inputs.has(i)) continue;
      own[i] = kept[first + next];
      needed[2 + i] = ctx->needs_input_grad(inputs.first() + next++);
    }
    const Saved saved{kept[0], kept[1], kept[2], kept[3], kept[4], kept[5], kept[6], kept[7]};
    const variable_list found = at::GradMode::is_enabled()
                                    ? through_python(kind, grads[0], saved, has_residual, own, needed)
                                    : kind.backward(grads[0], saved, own, needed);
    size_t next = others;
    result[next++] = found[0];
    if (has_residual) result[next++] = found[1];
    for (size_t i = 0; i < own.size(); ++i)
      if (own[i]) result[next++] = found[2 + i];
    return result;
  }

 private:
  static variable_list through_python(const LayerKind& kind, const Tensor& dy, const Saved& saved, bool has_residual,
                                      const Own& own, const std::vector<bool>& needed) {
    auto there = [](const Tensor& t) { return t.defined() ? Optional(t) : std::nullopt; };
    py::gil_scoped_acquire gil;
    const py::object found =
        differentiable_backward()(kind.number, dy, saved.x, there(saved.residual), there(saved.mask), has_residual,
                                  py::tuple(py::cast(own)), py::tuple(py::cast(needed)));
    variable_list result;
    for (const Optional& t : found.cast<Own>()) result.push_back(t.value_or(Tensor()));
    return result;
  }
};

bool wants_gradient(const Tensor& x, const Optional& residual, const Own& own) {
  if (!at::GradMode::is_enabled()) return false;
  bool any = x.requires_grad() || (residual && residual->requires_grad());
  for (const Optional& t : own) any = any || (t && t->requires_grad());
  return any;
}

}  // namespace

void differentiate_by(py::object function) { differentiable_backward() = std::move(function); }

Forward call(const LayerKind& kind, const Tensor& x, const Optional& residual, const Own& own) {
  if (!wants_gradient(x, residual, own)) return kind.forward(x, residual, own, false);
  Inputs inputs(&kind, int64_t(residual.has_value()));
  variable_list all{x};
  if (residual) all.push_back(*residual);
  all.reserve(2 + own.size());
  for (size_t i = 0; i < own.size(); ++i) {
    if (!own[i]) continue;
    inputs.given |= int64_t(1) << (i + 1);
    all.push_back(*own[i]);
  }
  Forward results;
  Tensor y = NormFunction::apply(static_cast<const Inputs*>(&inputs), &own, &results, at::TensorList(all));
  std::get<0>(results) = std::move(y);
  return results;
}

}  // namespace fusednorm
