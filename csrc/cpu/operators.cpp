#include "operators.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace fusednorm {

namespace {

// Outputs beyond this leave the caches before anybody reads them: writing them past the caches saves reading them in first.
// A layer touches four maps in either direction; of more than 8 MiB they don't fit a last cache of 32 MiB together. (What a
// system reports as its cache may be all sockets' together, so it is not asked.)
// FUSEDNORM_STREAM_BYTES=0 streams whatever it can (for tests).
int64_t stream_threshold() {
  static const int64_t threshold = [] {
    const char* asked = std::getenv("FUSEDNORM_STREAM_BYTES");
    return asked ? std::atoll(asked) : int64_t(8) << 20;
  }();
  return threshold;
}

Type type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return Type::f32;
    case ScalarType::Double:
      return Type::f64;
    case ScalarType::BFloat16:
      return Type::bf16;
    case ScalarType::Half:
      return Type::f16;
    default:
      STD_TORCH_CHECK(false, "fusednorm: x: expected a float32, float64, bfloat16 or float16 tensor");
  }
}

struct Dimension {
  int64_t size, stride;
};

}  // namespace

Act act_of(const std::string& name) {
  static const std::pair<const char*, Act> acts[] = {
      {"identity", Act::identity}, {"relu", Act::relu},
      {"relu6", Act::relu6},       {"leaky_relu", Act::leaky_relu},
      {"silu", Act::silu},         {"hardswish", Act::hardswish},
      {"gelu", Act::gelu},
  };
  for (const auto& [known, act] : acts)
    if (name == known) return act;
  STD_TORCH_CHECK(false, "fusednorm: act: unknown activation '", name, "'");
}

ScalarType compute_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Shape shape_of(const Tensor& x) {
  const auto sizes = x.sizes();
  STD_TORCH_CHECK(sizes.size() >= 2 && sizes.size() <= 5, "fusednorm: x: expected 2 to 5 dimensions, got ",
                  sizes.size());
  Shape s{};
  s.type = type_of(x);
  s.channels_last = sizes[1] > 1 && x.strides()[1] == 1;
  s.N = sizes[0], s.C = sizes[1], s.P2 = s.P1 = s.P0 = 1;
  int64_t* positions[] = {&s.P0, &s.P1, &s.P2};
  for (size_t i = 0; i + 2 < sizes.size(); ++i) *positions[i] = sizes[sizes.size() - 1 - i];
  s.stream = x.numel() * int64_t(x.element_size()) > stream_threshold();
  return s;
}

Operand operand(const Tensor& t, const Tensor& x, const char* name) {
  const auto sizes = t.sizes(), strides = t.strides(), expected = x.sizes();
  STD_TORCH_CHECK(
      std::equal(sizes.begin(), sizes.end(), expected.begin(), expected.end()) && t.scalar_type() == x.scalar_type(),
      "fusednorm: ", name, ": expected x's shape and type");
  Operand o;
  o.data = t.data_ptr();
  o.n = strides[0], o.c = strides[1];
  int64_t* steps[] = {&o.p0, &o.p1, &o.p2};
  std::vector<Dimension> dimensions;  // of more than one position, innermost first
  for (size_t i = 0; i + 2 < sizes.size(); ++i) {
    const size_t d = sizes.size() - 1 - i;
    *steps[i] = strides[d];
    if (sizes[d] > 1) dimensions.push_back({sizes[d], strides[d]});
  }
  for (size_t i = 1; i < dimensions.size(); ++i)
    o.flat = o.flat && dimensions[i].stride == dimensions[i - 1].stride * dimensions[i - 1].size;
  if (o.flat) o.p0 = dimensions.empty() ? 1 : dimensions[0].stride;
  return o;
}

Operand operand(const std::optional<Tensor>& t, const Tensor& x, const char* name) {
  return t ? operand(*t, x, name) : Operand{};
}

namespace {

PerPlane per_plane_of_type(const Tensor& t, const Tensor& x, const char* name, ScalarType type) {
  const auto sizes = t.sizes(), expected = x.sizes();
  STD_TORCH_CHECK(sizes.size() == 2 && sizes[0] == expected[0] && sizes[1] == expected[1] && t.scalar_type() == type,
                  "fusednorm: ", name, ": expected an (N, C) tensor of the compute type (a mean: of float64)");
  return {t.data_ptr(), t.strides()[0], t.strides()[1]};
}

}  // namespace

PerPlane per_plane(const Tensor& t, const Tensor& x, const char* name) {
  return per_plane_of_type(t, x, name, compute_type(x));
}

PerPlane means(const Tensor& t, const Tensor& x, const char* name) {
  return per_plane_of_type(t, x, name, ScalarType::Double);
}

PerPlane per_plane(const std::optional<Tensor>& t, const Tensor& x, const char* name) {
  return t ? per_plane(*t, x, name) : PerPlane{};
}

Tensor new_per_plane(const Tensor& x) {
  const int64_t sizes[] = {x.sizes()[0], x.sizes()[1]};
  return torch::stable::new_empty(x, {sizes, 2}, compute_type(x));
}

Tensor new_means(const Tensor& x) {
  const int64_t sizes[] = {x.sizes()[0], x.sizes()[1]};
  return torch::stable::new_empty(x, {sizes, 2}, ScalarType::Double);
}

Tensor new_mask(const Tensor& x) {
  const Shape s = shape_of(x);
  const int64_t outer = s.channels_last ? s.positions() : s.C, inner = s.channels_last ? s.C : s.positions();
  const int64_t sizes[] = {s.N, outer, (inner + 7) / 8};
  return torch::stable::new_empty(x, {sizes, 3}, ScalarType::Byte);
}

Tensor nothing(const Tensor& x, ScalarType type) {
  const int64_t sizes[] = {0};
  return torch::stable::new_empty(x, {sizes, 1}, type);
}

uint8_t* mask_data(const std::optional<Tensor>& mask, const Tensor& x) {
  if (!mask) return nullptr;
  const Shape s = shape_of(x);
  const int64_t runs = s.N * (s.channels_last ? s.positions() : s.C), run = s.channels_last ? s.C : s.positions();
  STD_TORCH_CHECK(
      mask->numel() == runs * ((run + 7) / 8) && mask->is_contiguous() && mask->scalar_type() == ScalarType::Byte,
      "fusednorm: mask: not the one that belongs to x");
  return static_cast<uint8_t*>(mask->data_ptr());
}

void parallel(int64_t items, int64_t elements, void (*body)(void*, int64_t, int64_t), void* context) {
  if (items <= 0) return;
  // torch's own measure of what is worth a second thread.
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements));
  torch::stable::parallel_for(0, items, grain, [=](int64_t begin, int64_t end) { body(context, begin, end); });
}

namespace {

std::tuple<Tensor, Tensor> plane_moments(Tensor x) {
  Tensor mean = new_means(x), var = new_per_plane(x);
  if (x.numel() == 0) return {mean, var};
  kernels().plane_moments({shape_of(x), operand(x, x, "x"), means(mean, x, "mean"), per_plane(var, x, "var")});
  return {mean, var};
}

AffineArgs arguments(const Tensor& x, const Tensor& center, const Tensor& scale, const Tensor& shift,
                     const std::optional<Tensor>& residual, const std::string& act) {
  AffineArgs k{};
  k.shape = shape_of(x);
  k.act = act_of(act);
  k.x = operand(x, x, "x");
  k.residual = operand(residual, x, "residual");
  k.center = per_plane(center, x, "center");
  k.scale = per_plane(scale, x, "scale");
  k.shift = per_plane(shift, x, "shift");
  return k;
}

std::tuple<Tensor, Tensor> plane_affine(Tensor x, Tensor center, Tensor scale, Tensor shift,
                                        std::optional<Tensor> residual, std::string act, bool save_mask) {
  Tensor y = torch::stable::empty_like(x), mask = save_mask ? new_mask(x) : nothing(x, ScalarType::Byte);
  if (x.numel() == 0) return {y, mask};
  AffineArgs k = arguments(x, center, scale, shift, residual, act);
  k.y = operand(y, x, "y");
  if (save_mask) k.mask = static_cast<uint8_t*>(mask.data_ptr());
  kernels().plane_affine(k);
  return {y, mask};
}

std::tuple<Tensor, Tensor, Tensor> plane_affine_reduce(Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift,
                                                       std::optional<Tensor> residual, std::optional<Tensor> mask,
                                                       std::string act, bool write_g) {
  Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
  Tensor dscale = new_per_plane(x), dshift = new_per_plane(x);
  if (x.numel() == 0) {
    torch::stable::zero_(dscale);
    torch::stable::zero_(dshift);
    return {g, dscale, dshift};
  }
  AffineArgs k = arguments(x, center, scale, shift, residual, act);
  k.dy = operand(dy, x, "dy");
  if (write_g) k.y = operand(g, x, "g");
  k.mask = mask_data(mask, x);
  k.dscale = per_plane(dscale, x, "dscale");
  k.dshift = per_plane(dshift, x, "dshift");
  kernels().plane_affine_reduce(k);
  return {g, dscale, dshift};
}

Tensor plane_affine_grad(Tensor g, Tensor x, Tensor center, Tensor scale, Tensor shift, std::optional<Tensor> residual,
                         std::optional<Tensor> mask, std::optional<Tensor> a, std::optional<Tensor> b,
                         std::string act) {
  Tensor dx = torch::stable::empty_like(x);
  if (x.numel() == 0) return dx;
  AffineArgs k = arguments(x, center, scale, shift, residual, act);
  k.dy = operand(g, x, "g");
  k.y = operand(dx, x, "dx");
  k.mask = mask_data(mask, x);
  k.a = per_plane(a, x, "a");
  k.b = per_plane(b, x, "b");
  kernels().plane_affine_grad(k);
  return dx;
}

}  // namespace

// The schemas are in fusednorm/engine/operators.py, one for all backends.
STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("plane_moments.cpu", TORCH_BOX(&plane_moments));
  m.impl("plane_affine.cpu", TORCH_BOX(&plane_affine));
  m.impl("plane_affine_reduce.cpu", TORCH_BOX(&plane_affine_reduce));
  m.impl("plane_affine_grad.cpu", TORCH_BOX(&plane_affine_grad));
}

}  // namespace fusednorm
