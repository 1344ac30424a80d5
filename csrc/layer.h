// norm_forward, norm_backward: a whole hot layer in one operator per direction, the passes and the head between them, for
// any device (operators.h):
//   void forward(ForwardCall&);  void backward(BackwardCall&);  static constexpr bool adds_gradients;   (onto zeros)
#pragma once

#include <tuple>
#include <vector>

#include "tensors.h"

namespace fusednorm {

using Optional = std::optional<Tensor>;

// A layer's parameters as dense arrays of the compute type: as they are where they are that already, else copied.
class Parameters {
 public:
  explicit Parameters(const Tensor& x) : type_(compute_type(x)) {}
  const void* operator()(const Optional& t, int64_t count, const char* name);

 private:
  ScalarType type_;
  std::vector<Tensor> kept_;
};

// What both directions are told of the layer, in the order of the operators' schemas (fusednorm/engine/operators.py).
struct Layer {
  Optional weight, bias, running_mean, running_var, mean_weight, var_weight, center_weight, fc_weight, fc_bias,
      norm_weight, norm_bias, norm_mean, norm_var, gate_weight, gate_bias;
  int64_t standardize, groups, scopes;  // scopes: (Over + 1) << 4i for the i-th
  bool unbiased, center_std;
  double eps;
  int64_t recalibrate, source, gate;
  double source_eps, norm_eps;

  int64_t components() const { return fc_weight ? fc_weight->sizes()[0] : 0; }
  bool over_batch() const;  // whether statistics of the batch are taken
};

// Its members' types. In the schemas `act` follows.
using LayerTypes = std::tuple<Optional, Optional, Optional, Optional, Optional, Optional, Optional, Optional, Optional,
                              Optional, Optional, Optional, Optional, Optional, Optional, int64_t, int64_t, int64_t,
                              bool, bool, double, int64_t, int64_t, int64_t, double, double>;

struct ForwardCall {
  const Tensor& x;
  Parameters parameters;
  MomentsArgs moments;
  HeadArgs head;  // with mean and v as outputs of the moments; `m` is the device's to fill
  AffineArgs affine;
  Tensor y, mask, mean, var, scale, shift, z, batch_mean, batch_var, z_mean, z_var;
};

struct BackwardCall {
  const Tensor& x;
  Parameters parameters;
  HeadGradArgs head;  // likewise; a and b null where nothing flows through the moments
  AffineArgs affine;  // without outputs
  Operand dx, dresidual;
  Tensor mean, sums;  // sums: dscale, dshift, a and b

  // g is dresidual. With the mask at hand it costs nothing to calculate again: it is written in the last pass, and the
  // first leaves dy and x in the caches for it. Without, the residual would have to be read twice: it is written in the
  // first pass and read back in the last. Either way 6 units.
  bool g_first() const { return dresidual.data && (!affine.mask || !dx.data); }
  AffineArgs reduce_pass() const;
  AffineArgs grad_pass() const;
  AffineArgs one_pass() const;  // where dy and x are kept in between
};

// y: where it goes; may be x.
ForwardCall prepare_forward(const Layer& layer, const Shape& shape, const Tensor& y, const Tensor& x,
                            const Optional& residual, const std::string& act, bool save_mask);

BackwardCall prepare_backward(const Layer& layer, const Shape& shape, const Tensor& dy, const Tensor& x,
                              const Optional& residual, const Optional& mask, const Tensor& mean, const Tensor& var,
                              const Tensor& scale, const Tensor& shift, const Tensor& z, const std::string& act);

// Memory for the gradient of a parameter, empty where there is none.
Tensor gradient_of(const Tensor& x, const Optional& parameter, bool zeroed);

inline void* data_or_null(const Tensor& t) { return t.defined() && t.numel() ? t.data_ptr() : nullptr; }

template <class Device, class Types = LayerTypes>
struct LayerOperators;

template <class Device, class... L>
struct LayerOperators<Device, std::tuple<L...>> {
  using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                              Tensor, Tensor>;

  static Forward norm_forward(Tensor x, Optional residual, L... l, std::string act, bool save_mask) {
    const Layer layer{l...};
    Device device(x);
    ForwardCall call = prepare_forward(layer, device.shape_of(x), make_like(x), x, residual, act, save_mask);
    device.forward(call);
    return {call.y, call.mask,       call.mean,      call.var,    call.scale, call.shift,
            call.z, call.batch_mean, call.batch_var, call.z_mean, call.z_var};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> norm_forward_inplace(Tensor x, Optional residual, L... l,
                                                                         std::string act) {
    const Layer layer{l...};
    Device device(x);
    ForwardCall call = prepare_forward(layer, device.shape_of(x), x, x, residual, act, false);
    device.forward(call);
    return {call.batch_mean, call.batch_var, call.z_mean, call.z_var};
  }

  static Backward norm_backward(Tensor dy, Tensor x, Optional residual, Optional mask, Tensor mean, Tensor var,
                                Tensor scale, Tensor shift, Tensor z, L... l, std::string act, bool need_dx,
                                bool need_dresidual) {
    Tensor dx = need_dx ? make_like(x) : nothing(x, x.scalar_type());
    return backward_into(dx, dy, x, residual, mask, mean, var, scale, shift, z, Layer{l...}, act, need_dx,
                         need_dresidual);
  }

  // dx: where it goes; may be dy's memory, if dy's strides are its.
  static Backward backward_into(Tensor dx, const Tensor& dy, const Tensor& x, const Optional& residual,
                                const Optional& mask, const Tensor& mean, const Tensor& var, const Tensor& scale,
                                const Tensor& shift, const Tensor& z, const Layer& layer, const std::string& act,
                                bool need_dx, bool need_dresidual) {
    Device device(x);
    BackwardCall call =
        prepare_backward(layer, device.shape_of(x), dy, x, residual, mask, mean, var, scale, shift, z, act);
    auto gradient = [&](const Optional& parameter, void*& to) {
      Tensor found = gradient_of(x, parameter, Device::adds_gradients);
      to = data_or_null(found);
      return found;
    };
    HeadGradArgs& to = call.head;
    Tensor dweight = gradient(layer.weight, to.dweight), dbias = gradient(layer.bias, to.dbias);
    Tensor dmean_weight = gradient(layer.mean_weight, to.dmean_weight);
    Tensor dvar_weight = gradient(layer.var_weight, to.dvar_weight);
    Tensor dcenter_weight = gradient(layer.center_weight, to.dcenter_weight);
    Tensor dfc_weight = gradient(layer.fc_weight, to.dfc_weight), dfc_bias = gradient(layer.fc_bias, to.dfc_bias);
    Tensor dnorm_weight = gradient(layer.norm_weight, to.dnorm_weight);
    Tensor dnorm_bias = gradient(layer.norm_bias, to.dnorm_bias);
    Tensor dgate_weight = gradient(layer.gate_weight, to.dgate_weight);
    Tensor dgate_bias = gradient(layer.gate_bias, to.dgate_bias);
    Tensor dresidual = need_dresidual ? make_like(x) : nothing(x, x.scalar_type());
    if (need_dx) call.dx = operand(dx, x, "dx");
    if (need_dresidual) call.dresidual = operand(dresidual, x, "dresidual");
    device.backward(call);
    return {dx,         dresidual, dweight,      dbias,      dmean_weight, dvar_weight, dcenter_weight,
            dfc_weight, dfc_bias,  dnorm_weight, dnorm_bias, dgate_weight, dgate_bias};
  }
};

}  // namespace fusednorm
