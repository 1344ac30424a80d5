// The kernels of layers that know a value per position (docs/positions.md) as operators, for any device (operators.h):
//   void position_reduce(const PositionReduceArgs&);  void plane_pool(const PlanePoolArgs&);
//   void position_moments(const PositionMomentsArgs&);
//   void position_affine(const PositionAffineArgs&);  and likewise position_affine_reduce, _spread, _grad
// and, where a device has them, kernels that are two of these:
//   void position_moments_pool(const PositionMomentsPoolArgs&);
//   void position_moments_affine(const PositionAffineArgs&);  and position_affine_spread_reduce
// The schemas are in fusednorm/engine/position_operators.py, one for all backends.
#pragma once

#include "common/position_arguments.h"
#include "tensors.h"

namespace fusednorm {

inline Statistic statistic_of(const std::string& name) {
  if (name == "spatial_mean") return Statistic::mean;
  STD_TORCH_CHECK(name == "spatial_std", "fusednorm: statistic: expected spatial_mean or spatial_std, got '", name,
                  "'");
  return Statistic::deviation;
}

inline Restrict restrict_of(const std::string& name) {
  if (name == "sigmoid") return Restrict::sigmoid;
  if (name == "tanh") return Restrict::tanh;
  STD_TORCH_CHECK(name == "hsigmoid", "fusednorm: restrict: expected sigmoid, tanh or hsigmoid, got '", name, "'");
  return Restrict::hsigmoid;
}

template <class Device>
struct PositionOperators {
  using Optional = std::optional<Tensor>;

  static Tensor position_reduce(Tensor x, Tensor center, Tensor weight, std::string kind) {
    Tensor t = new_per_position(x);
    if (x.numel() == 0) return torch::stable::zero_(t);
    Device device(x);
    PositionReduceArgs k{};
    k.shape = device.shape_of(x);
    k.kind = kind_of(kind);
    k.x = operand(x, x, "x");
    k.center = per_plane(center, x, "center");
    k.weight = per_plane(weight, x, "weight");
    k.t = t.data_ptr();
    device.position_reduce(k);
    return t;
  }

  static std::tuple<Tensor, Tensor> plane_pool(Tensor x, Tensor center, Tensor q, std::string kind) {
    const Kind f = kind_of(kind);
    Tensor pooled = new_per_plane(x), slope = f == Kind::sum ? nothing(x, compute_type(x)) : new_per_plane(x);
    if (x.numel() == 0) return {torch::stable::zero_(pooled), torch::stable::zero_(slope)};
    Device device(x);
    PlanePoolArgs k{};
    k.shape = device.shape_of(x);
    k.kind = f;
    k.x = operand(x, x, "x");
    k.center = per_plane(center, x, "center");
    k.q = per_position(q, x, "q");
    k.pooled = per_plane(pooled, x, "pooled");
    if (f != Kind::sum) k.slope = per_plane(slope, x, "slope");
    device.plane_pool(k);
    return {pooled, slope};
  }

  static std::tuple<Tensor, Tensor> position_moments(Tensor x, Tensor center, Tensor scale, Tensor shift,
                                                     Optional outer, Optional t) {
    Tensor mean = new_per_position(x), var = new_per_position(x);
    if (x.numel() == 0) return {torch::stable::zero_(mean), torch::stable::zero_(var)};
    Device device(x);
    PositionMomentsArgs k{};
    k.shape = device.shape_of(x);
    k.x = operand(x, x, "x");
    k.e = standardized(x, center, scale, shift, outer, t);
    k.mean = mean.data_ptr();
    k.var = var.data_ptr();
    device.position_moments(k);
    return {mean, var};
  }

  static Tensor position_affine(Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer, Optional t,
                                Tensor gain, Tensor bias, Optional gate_weight, Optional gate_bias, Optional u,
                                Optional residual, std::string restrict_, std::string act) {
    Tensor y = torch::stable::empty_like(x);
    if (x.numel() == 0) return y;
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    k.y = operand(y, x, "y");
    device.position_affine(k);
    return y;
  }

  static void position_affine_inplace(Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer, Optional t,
                                      Tensor gain, Tensor bias, Optional gate_weight, Optional gate_bias, Optional u,
                                      Optional residual, std::string restrict_, std::string act) {
    if (x.numel() == 0) return;
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    k.y = k.x;
    device.position_affine(k);
  }

  static std::tuple<Tensor, Tensor, Tensor> position_moments_pool(Tensor x, Tensor center, std::string statistic,
                                                                  int64_t blocks) {
    Tensor mean = new_per_position(x), var = new_per_position(x), cov = new_per_plane(x);
    if (x.numel() == 0) return {torch::stable::zero_(mean), torch::stable::zero_(var), torch::stable::zero_(cov)};
    Device device(x);
    PositionMomentsPoolArgs k{};
    k.shape = device.shape_of(x);
    k.x = operand(x, x, "x");
    k.center = per_plane(center, x, "center");
    k.statistic = statistic_of(statistic);
    k.blocks = blocks;
    k.mean = mean.data_ptr();
    k.var = var.data_ptr();
    k.cov = per_plane(cov, x, "cov");
    device.position_moments_pool(k);
    return {mean, var, cov};
  }

  static std::tuple<Tensor, Tensor, Tensor> position_moments_affine(Tensor x, Tensor center, Tensor scale, Tensor shift,
                                                                    Optional outer, Optional t, Tensor gain,
                                                                    Tensor bias, Tensor gate_weight, Tensor gate_bias,
                                                                    Optional residual, std::string statistic,
                                                                    std::string restrict_, std::string act,
                                                                    int64_t blocks) {
    return moments_affine_into(torch::stable::empty_like(x), x, center, scale, shift, outer, t, gain, bias, gate_weight,
                               gate_bias, residual, statistic, restrict_, act, blocks);
  }

  static void position_moments_affine_inplace(Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer,
                                              Optional t, Tensor gain, Tensor bias, Tensor gate_weight,
                                              Tensor gate_bias, Optional residual, std::string statistic,
                                              std::string restrict_, std::string act, int64_t blocks) {
    moments_affine_into(x, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, residual, statistic,
                        restrict_, act, blocks);
  }

  static std::tuple<Tensor, Tensor> position_affine_reduce(Tensor dy, Tensor x, Tensor center, Tensor scale,
                                                           Tensor shift, Optional outer, Optional t, Tensor gain,
                                                           Tensor bias, Optional gate_weight, Optional gate_bias,
                                                           Optional u, Optional residual, Optional e_offset,
                                                           Optional e_slope, std::string restrict_, std::string act,
                                                           bool write_g) {
    Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor sums = new_sums(x);
    if (x.numel() == 0) return {g, torch::stable::zero_(sums)};
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    backward(k, dy, x, e_offset, e_slope);
    if (write_g) k.y = operand(g, x, "g");
    k.sums = sums.data_ptr();
    device.position_affine_reduce(k);
    return {g, sums};
  }

  static std::tuple<Tensor, Tensor, Tensor> position_affine_spread(
      Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer, Optional t, Tensor gain,
      Tensor bias, Optional gate_weight, Optional gate_bias, Optional u, Optional residual, Optional e_offset,
      Optional e_slope, Optional pool, std::string restrict_, std::string act, bool write_g) {
    Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor du = u ? new_per_position(x) : nothing(x, compute_type(x));
    Tensor dt = t ? new_per_position(x) : nothing(x, compute_type(x));
    if (x.numel() == 0) return {g, torch::stable::zero_(du), torch::stable::zero_(dt)};
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    backward(k, dy, x, e_offset, e_slope);
    if (write_g) k.y = operand(g, x, "g");
    if (u) k.du = du.data_ptr();
    if (t) k.dt = dt.data_ptr();
    k.pool = per_plane(pool, x, "pool");
    device.position_affine_spread(k);
    return {g, du, dt};
  }

  static std::tuple<Tensor, Tensor, Tensor> position_affine_spread_reduce(
      Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer, Optional t, Tensor gain,
      Tensor bias, Tensor gate_weight, Tensor gate_bias, Tensor u, Optional residual, Tensor du_offset, Tensor du_slope,
      std::string restrict_, std::string act, bool write_g, int64_t blocks) {
    Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor du = new_per_position(x), sums = new_sums(x);
    if (x.numel() == 0) return {g, torch::stable::zero_(du), torch::stable::zero_(sums)};
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    k.blocks = blocks;
    k.dy = operand(dy, x, "dy");
    if (write_g) k.y = operand(g, x, "g");
    k.du = du.data_ptr();
    k.du_offset = per_position(du_offset, x, "du_offset");
    k.du_slope = per_position(du_slope, x, "du_slope");
    k.sums = sums.data_ptr();
    device.position_affine_spread_reduce(k);
    return {g, du, sums};
  }

  static Tensor position_affine_grad(Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Optional outer,
                                     Optional t, Tensor gain, Tensor bias, Optional gate_weight, Optional gate_bias,
                                     Optional u, Optional residual, Optional e_offset, Optional e_slope, Optional a,
                                     Optional b, Optional outers, Optional rows, Optional weight, Optional h,
                                     std::string kind, std::string restrict_, std::string act) {
    Tensor dx = torch::stable::empty_like(x);
    if (x.numel() == 0) return dx;
    Device device(x);
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u,
                                     residual, restrict_, act);
    backward(k, dy, x, e_offset, e_slope);
    k.y = operand(dx, x, "dx");
    together(a, b, "a and b");
    k.a = per_plane(a, x, "a");
    k.b = per_plane(b, x, "b");
    together(outers, rows, "outers and rows");
    if (outers) take_outers(k, *outers, *rows, x);
    together(weight, h, "weight and h");
    k.weight = per_plane(weight, x, "weight");
    k.h = per_position(h, x, "h");
    k.kind = kind_of(kind);
    device.position_affine_grad(k);
    return dx;
  }

 private:
  // y: where it goes; may be x.
  static std::tuple<Tensor, Tensor, Tensor> moments_affine_into(
      Tensor y, const Tensor& x, const Tensor& center, const Tensor& scale, const Tensor& shift, const Optional& outer,
      const Optional& t, const Tensor& gain, const Tensor& bias, const Tensor& gate_weight, const Tensor& gate_bias,
      const Optional& residual, const std::string& statistic, const std::string& restrict_, const std::string& act,
      int64_t blocks) {
    Tensor mean = new_per_position(x), var = new_per_position(x);
    if (x.numel() == 0) return {y, torch::stable::zero_(mean), torch::stable::zero_(var)};
    Device device(x);
    // u: for there to be a gate; the kernel finds it out
    PositionAffineArgs k = arguments(device, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias,
                                     mean, residual, restrict_, act);
    k.statistic = statistic_of(statistic);
    k.blocks = blocks;
    k.y = operand(y, x, "y");
    k.mean = mean.data_ptr();
    k.var = var.data_ptr();
    device.position_moments_affine(k);
    return {y, mean, var};
  }

  static PositionAffineArgs arguments(Device& device, const Tensor& x, const Tensor& center, const Tensor& scale,
                                      const Tensor& shift, const Optional& outer, const Optional& t, const Tensor& gain,
                                      const Tensor& bias, const Optional& gate_weight, const Optional& gate_bias,
                                      const Optional& u, const Optional& residual, const std::string& restrict_,
                                      const std::string& act) {
    PositionAffineArgs k{};
    k.shape = device.shape_of(x);
    k.act = act_of(act);
    k.x = operand(x, x, "x");
    k.residual = operand(residual, x, "residual");
    k.e = standardized(x, center, scale, shift, outer, t);
    k.gain = per_plane(gain, x, "gain");
    k.bias = per_plane(bias, x, "bias");
    k.restrict_ = restrict_of(restrict_);
    together(gate_weight, gate_bias, "gate_weight and gate_bias");
    together(gate_weight, u, "gate_weight and u");
    k.gate_weight = per_plane(gate_weight, x, "gate_weight");
    k.gate_bias = per_plane(gate_bias, x, "gate_bias");
    k.u = per_position(u, x, "u");
    return k;
  }

  static void backward(PositionAffineArgs& k, const Tensor& dy, const Tensor& x, const Optional& e_offset,
                       const Optional& e_slope) {
    k.dy = operand(dy, x, "dy");
    together(e_offset, e_slope, "e_offset and e_slope");
    k.e_offset = per_position(e_offset, x, "e_offset");
    k.e_slope = per_position(e_slope, x, "e_slope");
  }

  static Standardized standardized(const Tensor& x, const Tensor& center, const Tensor& scale, const Tensor& shift,
                                   const Optional& outer, const Optional& t) {
    together(outer, t, "outer and t");
    return {per_plane(center, x, "center"), per_plane(scale, x, "scale"), per_plane(shift, x, "shift"),
            per_plane(outer, x, "outer"), per_position(t, x, "t")};
  }

  static void take_outers(PositionAffineArgs& k, const Tensor& outers, const Tensor& rows, const Tensor& x) {
    const int64_t N = x.sizes()[0], C = x.sizes()[1], S = shape_of(x).positions();
    const auto sizes = outers.sizes(), row_sizes = rows.sizes();
    STD_TORCH_CHECK(sizes.size() == 3 && sizes[0] <= kMaxOuters && sizes[1] == N && sizes[2] == C &&
                        outers.scalar_type() == compute_type(x),
                    "fusednorm: outers: expected a (J, N, C) tensor of the compute type, J at most ", kMaxOuters);
    STD_TORCH_CHECK(row_sizes.size() == 3 && row_sizes[0] == sizes[0] && row_sizes[1] == N && row_sizes[2] == S &&
                        rows.is_contiguous() && rows.scalar_type() == compute_type(x),
                    "fusednorm: rows: expected a dense (J, N, S) tensor of the compute type, as many as outers");
    const auto strides = outers.strides();
    const int64_t bytes = int64_t(x.scalar_type() == ScalarType::Double ? sizeof(double) : sizeof(float));
    k.outer_count = int(sizes[0]);
    for (int j = 0; j < k.outer_count; ++j) {
      k.outers[j] = {static_cast<char*>(outers.data_ptr()) + j * strides[0] * bytes, strides[1], strides[2]};
      k.rows[j] = static_cast<char*>(rows.data_ptr()) + j * N * S * bytes;
    }
  }

  static void together(const Optional& first, const Optional& second, const char* names) {
    STD_TORCH_CHECK(first.has_value() == second.has_value(), "fusednorm: ", names,
                    ": expected both or neither, got one");
  }

  // A dense (N, S) tensor of the compute type.
  static void* per_position(const Tensor& t, const Tensor& x, const char* name) {
    const auto sizes = t.sizes();
    STD_TORCH_CHECK(sizes.size() == 2 && sizes[0] == x.sizes()[0] && sizes[1] == shape_of(x).positions() &&
                        t.is_contiguous() && t.scalar_type() == compute_type(x),
                    "fusednorm: ", name, ": expected a dense (N, S) tensor of the compute type");
    return t.data_ptr();
  }
  static void* per_position(const Optional& t, const Tensor& x, const char* name) {
    return t ? per_position(*t, x, name) : nullptr;
  }

  static Tensor new_per_position(const Tensor& x) {
    const int64_t sizes[] = {x.sizes()[0], shape_of(x).positions()};
    return torch::stable::new_empty(x, {sizes, 2}, compute_type(x));
  }

  static Tensor new_sums(const Tensor& x) {
    const int64_t sizes[] = {7, x.sizes()[0], x.sizes()[1]};
    return torch::stable::new_empty(x, {sizes, 3}, compute_type(x));
  }

  static Kind kind_of(const std::string& name) {
    if (name == "sum") return Kind::sum;
    if (name == "abs") return Kind::abs;
    STD_TORCH_CHECK(name == "square", "fusednorm: kind: expected sum, abs or square, got '", name, "'");
    return Kind::square;
  }
};

}  // namespace fusednorm
