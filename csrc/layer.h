// norm_forward, norm_backward: a whole hot layer in one operator per direction, the passes and the head between them, for
// any device (operators.h):
//   void forward(ForwardCall&);  void backward(BackwardCall&);  static constexpr bool adds_gradients;   (onto zeros)
#pragma once

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

// What both directions are told of the layer, in the order of the operators' schemas.
struct Layer {
  Optional weight, bias, running_mean, running_var, fc_weight, fc_bias, norm_weight, norm_bias, norm_mean, norm_var;
  int64_t groups;
  double eps;
  std::string attention_input, attention_act;
  double attention_eps, attention_norm_eps;

  int64_t components() const { return fc_weight ? fc_weight->sizes()[0] : 0; }
};

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
  Tensor mean, dscale, dshift, a, b;

  // g is dresidual. With the mask at hand it costs nothing to calculate again: it is written in the last pass, and the
  // first leaves dy and x in the caches for it. Without, the residual would have to be read twice: it is written in the
  // first pass and read back in the last. Either way 6 units.
  bool g_first() const { return dresidual.data && (!affine.mask || !dx.data); }
  AffineArgs reduce_pass() const;
  AffineArgs grad_pass() const;
  AffineArgs one_pass() const;  // where dy and x are kept in between
};

ForwardCall prepare_forward(const Layer& layer, const Shape& shape, const Tensor& x, const Optional& residual,
                            const std::string& act, bool save_mask);

BackwardCall prepare_backward(const Layer& layer, const Shape& shape, const Tensor& dy, const Tensor& x,
                              const Optional& residual, const Optional& mask, const Tensor& mean, const Tensor& var,
                              const Tensor& scale, const Tensor& shift, const Tensor& z, const std::string& act);

// Memory for the gradient of a parameter, empty where there is none.
Tensor gradient_of(const Tensor& x, const Optional& parameter, bool zeroed);

inline void* data_or_null(const Tensor& t) { return t.numel() ? t.data_ptr() : nullptr; }

template <class Device>
struct LayerOperators {
  using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

  static Forward norm_forward(Tensor x, Optional residual, Optional weight, Optional bias, Optional running_mean,
                              Optional running_var, Optional fc_weight, Optional fc_bias, Optional norm_weight,
                              Optional norm_bias, Optional norm_mean, Optional norm_var, int64_t groups, double eps,
                              std::string attention_input, std::string attention_act, double attention_eps,
                              double attention_norm_eps, std::string act, bool save_mask) {
    const Layer layer{weight,          bias,          running_mean,  running_var,       fc_weight, fc_bias,
                      norm_weight,     norm_bias,     norm_mean,     norm_var,          groups,    eps,
                      attention_input, attention_act, attention_eps, attention_norm_eps};
    Device device(x);
    ForwardCall call = prepare_forward(layer, device.shape_of(x), x, residual, act, save_mask);
    device.forward(call);
    return {call.y, call.mask,       call.mean,      call.var,    call.scale, call.shift,
            call.z, call.batch_mean, call.batch_var, call.z_mean, call.z_var};
  }

  static Backward norm_backward(Tensor dy, Tensor x, Optional residual, Optional mask, Tensor mean, Tensor var,
                                Tensor scale, Tensor shift, Tensor z, Optional weight, Optional bias,
                                Optional running_mean, Optional running_var, Optional fc_weight, Optional fc_bias,
                                Optional norm_weight, Optional norm_bias, Optional norm_mean, Optional norm_var,
                                int64_t groups, double eps, std::string attention_input, std::string attention_act,
                                double attention_eps, double attention_norm_eps, std::string act, bool need_dx,
                                bool need_dresidual) {
    const Layer layer{weight,          bias,          running_mean,  running_var,       fc_weight, fc_bias,
                      norm_weight,     norm_bias,     norm_mean,     norm_var,          groups,    eps,
                      attention_input, attention_act, attention_eps, attention_norm_eps};
    Device device(x);
    BackwardCall call =
        prepare_backward(layer, device.shape_of(x), dy, x, residual, mask, mean, var, scale, shift, z, act);
    auto gradient = [&](const Optional& parameter) { return gradient_of(x, parameter, Device::adds_gradients); };
    Tensor dweight = gradient(weight), dbias = gradient(bias), dfc_weight = gradient(fc_weight);
    Tensor dfc_bias = gradient(fc_bias), dnorm_weight = gradient(norm_weight), dnorm_bias = gradient(norm_bias);
    Tensor dx = need_dx ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor dresidual = need_dresidual ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    if (need_dx) call.dx = operand(dx, x, "dx");
    if (need_dresidual) call.dresidual = operand(dresidual, x, "dresidual");
    HeadGradArgs& to = call.head;
    to.dweight = data_or_null(dweight), to.dbias = data_or_null(dbias), to.dfc_weight = data_or_null(dfc_weight);
    to.dfc_bias = data_or_null(dfc_bias), to.dnorm_weight = data_or_null(dnorm_weight);
    to.dnorm_bias = data_or_null(dnorm_bias);
    device.backward(call);
    return {dx, dresidual, dweight, dbias, dfc_weight, dfc_bias, dnorm_weight, dnorm_bias};
  }
};

}  // namespace fusednorm
