#include "layer.h"

#include <algorithm>

namespace fusednorm {

const void* Parameters::operator()(const Optional& t, int64_t count, const char* name) {
  if (!t) return nullptr;
  STD_TORCH_CHECK(t->numel() == count, "fusednorm: ", name, ": expected ", count, " values, got ", t->numel());
  kept_.push_back(t->scalar_type() == type_ ? *t : to_type(*t, type_));
  if (!kept_.back().is_contiguous()) kept_.back() = dense(kept_.back());
  return kept_.back().data_ptr();
}

namespace {

// An empty map has no statistics; Python gives it an empty result before it comes here.
void refuse_empty(const Tensor& x) {
  STD_TORCH_CHECK(x.numel() > 0, "fusednorm: x: expected values, got an empty tensor");
}

void check_dense(const Tensor& t, int64_t count, ScalarType type, const char* name) {
  STD_TORCH_CHECK(t.numel() == count && t.is_contiguous() && t.scalar_type() == type, "fusednorm: ", name,
                  ": not what norm_forward returned");
}

Over over_of(const Layer& l, int64_t i) { return Over(((l.scopes >> (4 * i)) & 15) - 1); }

int64_t scopes_of(const Layer& l) {
  int64_t count = 0;
  while (count < 4 && (l.scopes >> (4 * count)) & 15) ++count;
  return count;
}

bool in_pairs(const Optional& a, const Optional& b) { return a.has_value() == b.has_value(); }

// That what a kind needs is there. Sizes are checked where the tensors are taken.
void check_layer(const Layer& l, int64_t C) {
  const auto standardize = Standardize(l.standardize);
  const auto recalibrate = Recalibrate(l.recalibrate);
  const bool attentive = recalibrate == Recalibrate::attentive, scaling = recalibrate == Recalibrate::scaling;
  const bool squeeze = recalibrate == Recalibrate::squeeze_excite, switchable = standardize == Standardize::switchable;
  const bool style = recalibrate == Recalibrate::style, window = recalibrate == Recalibrate::channel_attention;
  STD_TORCH_CHECK(l.standardize >= 0 && l.standardize <= int64_t(Standardize::filter_response) && l.recalibrate >= 0 &&
                      l.recalibrate <= int64_t(Recalibrate::global_response) && l.groups > 0 && C % l.groups == 0,
                  "fusednorm: a layer: kinds must be known, and groups divide the channels");
  STD_TORCH_CHECK(in_pairs(l.running_mean, l.running_var) && in_pairs(l.mean_weight, l.var_weight) &&
                      in_pairs(l.norm_weight, l.norm_bias) && in_pairs(l.norm_mean, l.norm_var),
                  "fusednorm: a layer: tensors that belong together must come in pairs");
  STD_TORCH_CHECK(switchable == l.mean_weight.has_value() &&
                      (standardize == Standardize::representative) == l.center_weight.has_value() &&
                      (attentive || squeeze) == l.fc_weight.has_value() && (l.fc_weight || !l.fc_bias) &&
                      (scaling || squeeze || window || style) == l.gate_weight.has_value() &&
                      (!scaling || l.gate_bias) && (scaling || squeeze || !l.gate_bias) &&
                      (attentive || style == l.norm_weight.has_value()) && (l.norm_weight || !l.norm_mean) &&
                      (!attentive || (l.weight && l.bias)) &&
                      (!l.running_mean || standardize == Standardize::batch || switchable ||
                       standardize == Standardize::representative),
                  "fusednorm: a layer: expected the tensors of its kinds, and no others");
  const int64_t count = scopes_of(l);
  bool known = switchable == (count > 0) && (l.scopes >> (4 * count)) == 0;
  for (int64_t i = 0; i < count; ++i) known = known && over_of(l, i) <= Over::group;
  STD_TORCH_CHECK(known, "fusednorm: scopes: not known");
}

HeadArgs head_args(const Layer& l, const Shape& s, const Tensor& mean, const Tensor& var, Parameters& take) {
  check_layer(l, s.C);
  HeadArgs k{};
  k.f64 = s.type == Type::f64;
  k.N = s.N, k.C = s.C, k.S = s.positions(), k.K = l.components();
  k.standardize = Standardize(l.standardize), k.recalibrate = Recalibrate(l.recalibrate);
  k.groups = l.groups, k.eps = l.eps;
  k.mean = static_cast<const double*>(mean.data_ptr());
  k.v = var.data_ptr();
  const bool attentive = k.recalibrate == Recalibrate::attentive;
  const int64_t affine = attentive ? k.K * k.C : k.C;
  k.weight = take(l.weight, affine, "weight");
  k.bias = take(l.bias, affine, "bias");
  k.running_mean = take(l.running_mean, k.C, "running_mean");
  k.running_var = take(l.running_var, k.C, "running_var");
  k.scopes = scopes_of(l);
  for (int64_t i = 0; i < k.scopes; ++i) k.over[i] = over_of(l, i);
  k.unbiased = l.unbiased;
  if (k.scopes) k.ratio_groups = std::max<int64_t>(1, l.mean_weight->numel() / k.scopes);
  STD_TORCH_CHECK(k.C % k.ratio_groups == 0, "fusednorm: mean_weight: rows must divide the channels");
  k.mean_weight = take(l.mean_weight, k.ratio_groups * k.scopes, "mean_weight");
  k.var_weight = take(l.var_weight, k.ratio_groups * k.scopes, "var_weight");
  k.center_weight = take(l.center_weight, k.C, "center_weight");
  k.center_std = l.center_std;
  k.source = int(l.source), k.gate = int(l.gate);
  k.source_eps = l.source_eps, k.norm_eps = l.norm_eps;
  const bool two = attentive && k.source == 1;  // mean and std
  k.fc_weight = take(l.fc_weight, k.K * (two ? 2 : 1) * k.C, "fc_weight");
  k.fc_bias = take(l.fc_bias, k.K, "fc_bias");
  k.attention_norm = l.norm_weight.has_value();
  const bool style = k.recalibrate == Recalibrate::style, windows = k.recalibrate == Recalibrate::channel_attention;
  const int64_t normed = style ? k.C : k.K;
  k.norm_weight = take(l.norm_weight, normed, "norm_weight");
  k.norm_bias = take(l.norm_bias, normed, "norm_bias");
  k.norm_mean = take(l.norm_mean, normed, "norm_mean");
  k.norm_var = take(l.norm_var, normed, "norm_var");
  if (windows) k.window = l.gate_weight->numel();
  STD_TORCH_CHECK(!windows || k.window % 2 == 1, "fusednorm: gate_weight: expected an odd number of values");
  k.gate_weight = take(l.gate_weight, windows ? k.window : style ? 2 * k.C : k.K ? k.C * k.K : k.C, "gate_weight");
  k.gate_bias = take(l.gate_bias, k.C, "gate_bias");
  return k;
}

Tensor new_vector(const Tensor& x, int64_t count) {
  if (count == 0) return nothing(x, compute_type(x));
  const int64_t sizes[] = {count};
  return make_empty(x, {sizes, 1}, compute_type(x));
}

Tensor new_logits(const Tensor& x, int64_t N, int64_t K) {
  const int64_t sizes[] = {N, K};
  return make_empty(x, {sizes, 2}, ScalarType::Double);
}

}  // namespace

bool Layer::over_batch() const {
  const auto kind = Standardize(standardize);
  bool batch = kind == Standardize::batch || kind == Standardize::representative;
  for (int64_t i = 0; kind == Standardize::switchable && i < scopes_of(*this); ++i)
    batch = batch || over_of(*this, i) == Over::batch;
  return batch && !running_mean;
}

Tensor gradient_of(const Tensor& x, const Optional& parameter, bool zeroed) {
  if (!parameter) return nothing(x, compute_type(x));
  return zeroed ? make_zeros(x, parameter->sizes(), compute_type(x))
                : make_empty(x, parameter->sizes(), compute_type(x));
}

ForwardCall prepare_forward(const Layer& layer, const Shape& shape, const Tensor& y, const Tensor& x,
                            const Optional& residual, const std::string& act, bool save_mask) {
  refuse_empty(x);
  const int64_t K = layer.components(), channels = layer.over_batch() ? shape.C : 0;
  const int64_t components = layer.norm_weight && !layer.norm_mean ? layer.norm_weight->numel() : 0;
  ForwardCall call{x,
                   Parameters(x),
                   {},
                   {},
                   {},
                   y,
                   save_mask ? new_mask(x) : nothing(x, ScalarType::Byte),
                   new_means(x),
                   new_per_plane(x),
                   new_per_plane(x),
                   new_per_plane(x),
                   new_logits(x, shape.N, K),
                   new_vector(x, channels),
                   new_vector(x, channels),
                   new_vector(x, components),
                   new_vector(x, components)};
  HeadArgs& head = call.head;
  head = head_args(layer, shape, call.mean, call.var, call.parameters);
  head.scale = call.scale.data_ptr(), head.shift = call.shift.data_ptr(), head.z = call.z.data_ptr();
  head.batch_mean = data_or_null(call.batch_mean), head.batch_var = data_or_null(call.batch_var);
  head.z_mean = data_or_null(call.z_mean), head.z_var = data_or_null(call.z_var);
  AffineArgs& k = call.affine;
  k.shape = shape;
  k.act = act_of(act);
  k.x = operand(x, x, "x");
  k.residual = operand(residual, x, "residual");
  k.scale = per_plane(call.scale, x, "scale"), k.shift = per_plane(call.shift, x, "shift");
  k.y = operand(call.y, x, "y");
  if (save_mask) k.mask = static_cast<uint8_t*>(call.mask.data_ptr());
  call.moments = {shape, k.x, means(call.mean, x, "mean"), per_plane(call.var, x, "var")};
  return call;
}

BackwardCall prepare_backward(const Layer& layer, const Shape& shape, const Tensor& dy, const Tensor& x,
                              const Optional& residual, const Optional& mask, const Tensor& mean, const Tensor& var,
                              const Tensor& scale, const Tensor& shift, const Tensor& z, const std::string& act) {
  refuse_empty(x);
  const int64_t planes = shape.N * shape.C;
  check_dense(mean, planes, ScalarType::Double, "mean");
  for (const auto& [t, name] : {std::pair(&var, "var"), std::pair(&scale, "scale"), std::pair(&shift, "shift")})
    check_dense(*t, planes, compute_type(x), name);
  check_dense(z, shape.N * layer.components(), ScalarType::Double, "z");
  const int64_t row = (planes + 15) / 16 * 16;  // each begins on a cache line
  BackwardCall call{x, Parameters(x), {}, {}, {}, {}, mean, new_rows(x, 4, row, compute_type(x))};
  auto sums = [&](int64_t i) -> void* {
    return static_cast<char*>(call.sums.data_ptr()) + i * row * int64_t(call.sums.element_size());
  };
  AffineArgs& k = call.affine;
  k.shape = shape;
  k.act = act_of(act);
  k.x = operand(x, x, "x");
  k.dy = operand(dy, x, "dy");
  k.residual = operand(residual, x, "residual");
  k.mask = mask_data(mask, x);
  k.scale = per_plane(scale, x, "scale"), k.shift = per_plane(shift, x, "shift");
  k.dscale = {sums(0), shape.C, 1}, k.dshift = {sums(1), shape.C, 1};
  HeadGradArgs& to = call.head;
  to.head = head_args(layer, shape, mean, var, call.parameters);
  to.head.scale = scale.data_ptr(), to.head.shift = shift.data_ptr(), to.head.z = z.data_ptr();
  to.dscale = sums(0), to.dshift = sums(1);
  if (to.head.needs_moments()) to.a = sums(2), to.b = sums(3);
  return call;
}

AffineArgs BackwardCall::reduce_pass() const {
  AffineArgs k = affine;
  if (g_first()) k.y = dresidual;
  return k;
}

AffineArgs BackwardCall::one_pass() const {
  AffineArgs k = affine;
  k.y = dx, k.g = dresidual;
  if (head.a) k.a = {head.a, k.shape.C, 1}, k.b = {head.b, k.shape.C, 1};
  return k;
}

AffineArgs BackwardCall::grad_pass() const {
  AffineArgs k = affine;
  k.y = dx;
  if (head.a) k.a = {head.a, k.shape.C, 1}, k.b = {head.b, k.shape.C, 1};
  if (g_first()) {
    k.dy = dresidual;
    k.act = Act::identity;
    k.mask = nullptr;
    k.residual = Operand{};
  } else {
    k.g = dresidual;
  }
  return k;
}

}  // namespace fusednorm
