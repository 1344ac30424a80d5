// norm_forward, norm_backward: a whole hot layer in one operator per direction, the passes and the head between them.
#include <vector>

#include "operators.h"

namespace fusednorm {

namespace {

using Optional = std::optional<Tensor>;

// The layer's parameters as dense arrays of the compute type: as they are where they are that already, else copied.
class Parameters {
 public:
  explicit Parameters(const Tensor& x) : type_(compute_type(x)) {}

  const void* operator()(const Optional& t, int64_t count, const char* name) {
    if (!t) return nullptr;
    STD_TORCH_CHECK(t->numel() == count, "fusednorm: ", name, ": expected ", count, " values, got ", t->numel());
    kept_.push_back(t->scalar_type() == type_ ? *t : torch::stable::to(*t, type_));
    if (!kept_.back().is_contiguous()) kept_.back() = torch::stable::contiguous(kept_.back());
    return kept_.back().data_ptr();
  }

 private:
  ScalarType type_;
  std::vector<Tensor> kept_;
};

// What both directions are told of the layer, in the order of the operators' schemas.
struct Layer {
  Optional weight, bias, running_mean, running_var, fc_weight, fc_bias, norm_weight, norm_bias, norm_mean, norm_var;
  int64_t groups;
  double eps;
  std::string attention_input, attention_act;
  double attention_eps, attention_norm_eps;

  int64_t components() const { return fc_weight ? fc_weight->sizes()[0] : 0; }
  bool needs_moments() const { return groups >= 0 || fc_weight; }
};

// An empty map has no statistics; Python gives it an empty result before it comes here.
void refuse_empty(const Tensor& x) {
  STD_TORCH_CHECK(x.numel() > 0, "fusednorm: x: expected values, got an empty tensor");
}

void check_dense(const Tensor& t, int64_t count, ScalarType type, const char* name) {
  STD_TORCH_CHECK(t.numel() == count && t.is_contiguous() && t.scalar_type() == type, "fusednorm: ", name,
                  ": not what norm_forward returned");
}

int attention_input_of(const std::string& name) { return name == "mean" ? 0 : name == "mean_std" ? 1 : 2; }
int attention_act_of(const std::string& name) {
  return name == "relu" ? 0 : name == "sigmoid" ? 1 : name == "softmax" ? 2 : 3;
}

HeadArgs head_args(const Layer& l, const Tensor& x, const Tensor& mean, const Tensor& center, const Tensor& var,
                   Parameters& take) {
  const Shape s = shape_of(x);
  STD_TORCH_CHECK(l.running_mean.has_value() == l.running_var.has_value() && (l.groups >= 0 || l.running_mean) &&
                      l.norm_weight.has_value() == l.norm_bias.has_value() &&
                      l.norm_mean.has_value() == l.norm_var.has_value() && (!l.fc_weight || (l.weight && l.bias)) &&
                      (l.groups <= 0 || x.sizes()[1] % l.groups == 0),
                  "fusednorm: a layer's tensors must come in pairs, and groups divide the channels");
  HeadArgs k{};
  k.f64 = s.type == Type::f64;
  k.N = s.N, k.C = s.C, k.S = s.positions(), k.K = l.components();
  k.groups = l.groups, k.eps = l.eps;
  k.mean = static_cast<const double*>(mean.data_ptr());
  k.m = center.data_ptr(), k.v = var.data_ptr();
  const int64_t affine = k.K ? k.K * k.C : k.C, inputs = l.attention_input == "mean_std" ? 2 * k.C : k.C;
  k.weight = take(l.weight, affine, "weight");
  k.bias = take(l.bias, affine, "bias");
  if (l.groups < 0) {
    k.running_mean = take(l.running_mean, k.C, "running_mean");
    k.running_var = take(l.running_var, k.C, "running_var");
  }
  k.fc_weight = take(l.fc_weight, k.K * inputs, "fc_weight");
  k.fc_bias = take(l.fc_bias, k.K, "fc_bias");
  k.attention_norm = l.norm_weight.has_value();
  k.norm_weight = take(l.norm_weight, k.K, "norm_weight");
  k.norm_bias = take(l.norm_bias, k.K, "norm_bias");
  k.norm_mean = take(l.norm_mean, k.K, "norm_mean");
  k.norm_var = take(l.norm_var, k.K, "norm_var");
  k.attention_input = attention_input_of(l.attention_input);
  k.attention_act = attention_act_of(l.attention_act);
  k.attention_eps = l.attention_eps, k.attention_norm_eps = l.attention_norm_eps;
  return k;
}

Tensor new_vector(const Tensor& x, int64_t count) {
  const int64_t sizes[] = {count};
  return torch::stable::new_empty(x, {sizes, 1}, compute_type(x));
}

Tensor new_logits(const Tensor& x, int64_t N, int64_t K) {
  const int64_t sizes[] = {N, K};
  return torch::stable::new_empty(x, {sizes, 2}, ScalarType::Double);
}

Tensor zeros_of(const Tensor& x, const Optional& like) {
  if (!like) return nothing(x, compute_type(x));
  Tensor t = torch::stable::new_zeros(x, like->sizes(), compute_type(x));
  return t;
}

void* data_or_null(const Tensor& t) { return t.numel() ? t.data_ptr() : nullptr; }

template <class To, class From>
void copy_values(const Tensor& to, const void* from, int64_t count, int64_t period) {
  To* p = static_cast<To*>(to.data_ptr());
  for (int64_t i = 0; i < count; ++i) p[i] = To(static_cast<const From*>(from)[i % period]);
}

// The pivots: the means in the compute type.
Tensor center_of(const Tensor& mean, const Tensor& x) {
  if (compute_type(x) == ScalarType::Double) return mean;
  Tensor center = new_per_plane(x);
  copy_values<float, double>(center, mean.data_ptr(), mean.numel(), mean.numel());
  return center;
}

// Where no moments are taken: the running mean, for every sample.
void fill_means(const Tensor& mean, const void* running_mean, const Tensor& x) {
  const int64_t C = x.sizes()[1];
  if (compute_type(x) == ScalarType::Double)
    copy_values<double, double>(mean, running_mean, mean.numel(), C);
  else
    copy_values<double, float>(mean, running_mean, mean.numel(), C);
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward norm_forward(Tensor x, Optional residual, Optional weight, Optional bias, Optional running_mean,
                     Optional running_var, Optional fc_weight, Optional fc_bias, Optional norm_weight,
                     Optional norm_bias, Optional norm_mean, Optional norm_var, int64_t groups, double eps,
                     std::string attention_input, std::string attention_act, double attention_eps,
                     double attention_norm_eps, std::string act, bool save_mask) {
  const Layer layer{weight,          bias,          running_mean,  running_var,       fc_weight, fc_bias,
                    norm_weight,     norm_bias,     norm_mean,     norm_var,          groups,    eps,
                    attention_input, attention_act, attention_eps, attention_norm_eps};
  const int64_t N = x.sizes()[0], C = x.sizes()[1], K = layer.components();
  const bool batch = groups == 0, normed = norm_weight.has_value() && !norm_mean.has_value();
  refuse_empty(x);
  Tensor y = torch::stable::empty_like(x), mask = save_mask ? new_mask(x) : nothing(x, ScalarType::Byte);
  Tensor mean = new_means(x), var = new_per_plane(x), scale = new_per_plane(x), shift = new_per_plane(x);
  Tensor z = new_logits(x, N, K), batch_mean = new_vector(x, batch ? C : 0), batch_var = new_vector(x, batch ? C : 0);
  Tensor z_mean = new_vector(x, normed ? K : 0), z_var = new_vector(x, normed ? K : 0);

  Parameters take(x);
  AffineArgs k{};
  k.shape = shape_of(x);
  k.act = act_of(act);
  k.x = operand(x, x, "x");
  if (layer.needs_moments()) {
    kernels().plane_moments({k.shape, k.x, means(mean, x, "mean"), per_plane(var, x, "var")});
  } else {
    fill_means(mean, take(running_mean, C, "running_mean"), x);
    torch::stable::zero_(var);
  }
  const Tensor center = center_of(mean, x);
  HeadArgs head = head_args(layer, x, mean, center, var, take);
  head.scale = scale.data_ptr(), head.shift = shift.data_ptr(), head.z = z.data_ptr();
  head.batch_mean = data_or_null(batch_mean), head.batch_var = data_or_null(batch_var);
  head.z_mean = data_or_null(z_mean), head.z_var = data_or_null(z_var);
  kernels().head(head);

  k.residual = operand(residual, x, "residual");
  k.center = per_plane(center, x, "center"), k.scale = per_plane(scale, x, "scale"),
  k.shift = per_plane(shift, x, "shift");
  k.y = operand(y, x, "y");
  if (save_mask) k.mask = static_cast<uint8_t*>(mask.data_ptr());
  kernels().plane_affine(k);
  return {y, mask, mean, var, scale, shift, z, batch_mean, batch_var, z_mean, z_var};
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Backward norm_backward(Tensor dy, Tensor x, Optional residual, Optional mask, Tensor mean, Tensor var, Tensor scale,
                       Tensor shift, Tensor z, Optional weight, Optional bias, Optional running_mean,
                       Optional running_var, Optional fc_weight, Optional fc_bias, Optional norm_weight,
                       Optional norm_bias, Optional norm_mean, Optional norm_var, int64_t groups, double eps,
                       std::string attention_input, std::string attention_act, double attention_eps,
                       double attention_norm_eps, std::string act, bool need_dx, bool need_dresidual) {
  const Layer layer{weight,          bias,          running_mean,  running_var,       fc_weight, fc_bias,
                    norm_weight,     norm_bias,     norm_mean,     norm_var,          groups,    eps,
                    attention_input, attention_act, attention_eps, attention_norm_eps};
  refuse_empty(x);
  const int64_t planes = x.sizes()[0] * x.sizes()[1];
  check_dense(mean, planes, ScalarType::Double, "mean");
  for (const auto& [t, name] : {std::pair(&var, "var"), std::pair(&scale, "scale"), std::pair(&shift, "shift")})
    check_dense(*t, planes, compute_type(x), name);
  check_dense(z, x.sizes()[0] * layer.components(), ScalarType::Double, "z");
  Tensor dresidual = need_dresidual ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
  const Tensor center = center_of(mean, x);
  Tensor dscale = new_per_plane(x), dshift = new_per_plane(x);
  AffineArgs k{};
  k.shape = shape_of(x);
  k.act = act_of(act);
  k.x = operand(x, x, "x");
  k.dy = operand(dy, x, "dy");
  k.residual = operand(residual, x, "residual");
  k.mask = mask_data(mask, x);
  k.center = per_plane(center, x, "center"), k.scale = per_plane(scale, x, "scale"),
  k.shift = per_plane(shift, x, "shift");
  k.dscale = per_plane(dscale, x, "dscale"), k.dshift = per_plane(dshift, x, "dshift");
  // g is dresidual. With the mask at hand it costs nothing to calculate again: it is written in the last pass, and the
  // first leaves dy and x in the caches for it. Without, the residual would have to be read twice: it is written in the
  // first pass and read back in the last. Either way 6 units.
  const bool g_first = need_dresidual && (!mask || !need_dx);
  if (g_first) k.y = operand(dresidual, x, "dresidual");
  kernels().plane_affine_reduce(k);

  Parameters take(x);
  HeadGradArgs to{};
  to.head = head_args(layer, x, mean, center, var, take);
  to.head.scale = scale.data_ptr(), to.head.z = z.data_ptr();
  to.dscale = dscale.data_ptr(), to.dshift = dshift.data_ptr();
  Tensor dweight = zeros_of(x, weight), dbias = zeros_of(x, bias), dfc_weight = zeros_of(x, fc_weight);
  Tensor dfc_bias = zeros_of(x, fc_bias), dnorm_weight = zeros_of(x, norm_weight), dnorm_bias = zeros_of(x, norm_bias);
  to.dweight = data_or_null(dweight), to.dbias = data_or_null(dbias), to.dfc_weight = data_or_null(dfc_weight);
  to.dfc_bias = data_or_null(dfc_bias), to.dnorm_weight = data_or_null(dnorm_weight);
  to.dnorm_bias = data_or_null(dnorm_bias);
  const bool moments = layer.needs_moments();
  Tensor a = new_per_plane(x), b = new_per_plane(x);
  if (moments) to.a = a.data_ptr(), to.b = b.data_ptr();
  kernels().head_grad(to);

  if (!need_dx)
    return {nothing(x, x.scalar_type()), dresidual, dweight, dbias, dfc_weight, dfc_bias, dnorm_weight, dnorm_bias};
  Tensor dx = torch::stable::empty_like(x);
  k.y = operand(dx, x, "dx");
  if (moments) k.a = per_plane(a, x, "a"), k.b = per_plane(b, x, "b");
  if (need_dresidual && !g_first) k.g = operand(dresidual, x, "dresidual");
  if (g_first) {
    k.dy = operand(dresidual, x, "dresidual");
    k.act = Act::identity;
    k.mask = nullptr;
    k.residual = Operand{};
  }
  kernels().plane_affine_grad(k);
  return {dx, dresidual, dweight, dbias, dfc_weight, dfc_bias, dnorm_weight, dnorm_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("norm_forward.cpu", TORCH_BOX(&norm_forward));
  m.impl("norm_backward.cpu", TORCH_BOX(&norm_backward));
}

}  // namespace fusednorm
