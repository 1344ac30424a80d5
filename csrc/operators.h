// The four streaming kernels as operators, for any device.
//   struct Device {
//     explicit Device(const Tensor& x);                   makes x's device current; what the kernels need of it
//     Shape shape_of(const Tensor& x);
//     void plane_moments(const MomentsArgs&);  void plane_affine(const AffineArgs&);
//     void plane_affine_reduce(const AffineArgs&);  void plane_affine_grad(const AffineArgs&);
//   };
// The schemas are in fusednorm/engine/operators.py, one for all backends.
#pragma once

#include "tensors.h"

namespace fusednorm {

template <class Device>
struct Operators {
  static std::tuple<Tensor, Tensor> plane_moments(Tensor x) {
    Tensor mean = new_means(x), var = new_per_plane(x);
    if (x.numel() == 0) return {mean, var};
    Device device(x);
    device.plane_moments({device.shape_of(x), operand(x, x, "x"), means(mean, x, "mean"), per_plane(var, x, "var")});
    return {mean, var};
  }

  static std::tuple<Tensor, Tensor> plane_affine(Tensor x, Tensor center, Tensor scale, Tensor shift,
                                                 std::optional<Tensor> residual, std::string act, bool save_mask) {
    Tensor y = torch::stable::empty_like(x), mask = save_mask ? new_mask(x) : nothing(x, ScalarType::Byte);
    if (x.numel() == 0) return {y, mask};
    Device device(x);
    AffineArgs k = arguments(device, x, center, scale, shift, residual, act);
    k.y = operand(y, x, "y");
    if (save_mask) k.mask = static_cast<uint8_t*>(mask.data_ptr());
    device.plane_affine(k);
    return {y, mask};
  }

  static void plane_affine_inplace(Tensor x, Tensor center, Tensor scale, Tensor shift, std::optional<Tensor> residual,
                                   std::string act) {
    if (x.numel() == 0) return;
    Device device(x);
    AffineArgs k = arguments(device, x, center, scale, shift, residual, act);
    k.y = k.x;
    device.plane_affine(k);
  }

  static std::tuple<Tensor, Tensor, Tensor> plane_affine_reduce(Tensor dy, Tensor x, Tensor center, Tensor scale,
                                                                Tensor shift, std::optional<Tensor> residual,
                                                                std::optional<Tensor> mask, std::string act,
                                                                bool write_g) {
    Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor dscale = new_per_plane(x), dshift = new_per_plane(x);
    if (x.numel() == 0) {
      torch::stable::zero_(dscale);
      torch::stable::zero_(dshift);
      return {g, dscale, dshift};
    }
    Device device(x);
    AffineArgs k = arguments(device, x, center, scale, shift, residual, act);
    k.dy = operand(dy, x, "dy");
    if (write_g) k.y = operand(g, x, "g");
    k.mask = mask_data(mask, x);
    k.dscale = per_plane(dscale, x, "dscale");
    k.dshift = per_plane(dshift, x, "dshift");
    device.plane_affine_reduce(k);
    return {g, dscale, dshift};
  }

  static Tensor plane_affine_grad(Tensor g, Tensor x, Tensor center, Tensor scale, Tensor shift,
                                  std::optional<Tensor> residual, std::optional<Tensor> mask, std::optional<Tensor> a,
                                  std::optional<Tensor> b, std::string act) {
    Tensor dx = torch::stable::empty_like(x);
    if (x.numel() == 0) return dx;
    Device device(x);
    AffineArgs k = arguments(device, x, center, scale, shift, residual, act);
    k.dy = operand(g, x, "g");
    k.y = operand(dx, x, "dx");
    k.mask = mask_data(mask, x);
    k.a = per_plane(a, x, "a");
    k.b = per_plane(b, x, "b");
    device.plane_affine_grad(k);
    return dx;
  }

 private:
  static AffineArgs arguments(Device& device, const Tensor& x, const Tensor& center, const Tensor& scale,
                              const Tensor& shift, const std::optional<Tensor>& residual, const std::string& act) {
    AffineArgs k{};
    k.shape = device.shape_of(x);
    k.act = act_of(act);
    k.x = operand(x, x, "x");
    k.residual = operand(residual, x, "residual");
    k.center = per_plane(center, x, "center");
    k.scale = per_plane(scale, x, "scale");
    k.shift = per_plane(shift, x, "shift");
    return k;
  }
};

}  // namespace fusednorm
