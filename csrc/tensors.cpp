#include "tensors.h"

#include <algorithm>
#include <vector>

namespace fusednorm {

namespace {

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

void* dense_data(const Tensor& t, int64_t count, ScalarType type, const char* name) {
  STD_TORCH_CHECK(t.is_contiguous() && t.numel() == count && t.scalar_type() == type, "fusednorm: ", name,
                  ": expected ", count, " dense values of the compute type (a mean: of float64)");
  return t.data_ptr();
}

Tensor new_rows(const Tensor& x, int64_t rows, int64_t columns, ScalarType type) {
  const int64_t sizes[] = {rows, columns};
  return make_empty(x, {sizes, 2}, type);
}

Tensor new_per_plane(const Tensor& x) {
  const int64_t sizes[] = {x.sizes()[0], x.sizes()[1]};
  return make_empty(x, {sizes, 2}, compute_type(x));
}

Tensor new_means(const Tensor& x) {
  const int64_t sizes[] = {x.sizes()[0], x.sizes()[1]};
  return make_empty(x, {sizes, 2}, ScalarType::Double);
}

Tensor new_mask(const Tensor& x) {
  const Shape s = shape_of(x);
  const int64_t outer = s.channels_last ? s.positions() : s.C, inner = s.channels_last ? s.C : s.positions();
  const int64_t sizes[] = {s.N, outer, (inner + 7) / 8};
  return make_empty(x, {sizes, 3}, ScalarType::Byte);
}

Tensor nothing(const Tensor& x, ScalarType type) { return make_nothing(x, type); }

uint8_t* mask_data(const std::optional<Tensor>& mask, const Tensor& x) {
  if (!mask) return nullptr;
  const Shape s = shape_of(x);
  const int64_t runs = s.N * (s.channels_last ? s.positions() : s.C), run = s.channels_last ? s.C : s.positions();
  STD_TORCH_CHECK(
      mask->numel() == runs * ((run + 7) / 8) && mask->is_contiguous() && mask->scalar_type() == ScalarType::Byte,
      "fusednorm: mask: not the one that belongs to x");
  return static_cast<uint8_t*>(mask->data_ptr());
}

}  // namespace fusednorm
