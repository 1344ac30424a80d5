// The Normalization-Attention module as one operator a direction. The schemas are in
// fusednorm/engine/context_operators.py.
#include "../context_operators.h"
#include "context.h"
#include "device.h"

namespace fusednorm {

namespace {

// A dense tensor of float32, or float64.
template <class A>
A* data_of(const Tensor& t, int64_t count, const char* name) {
  return static_cast<A*>(dense_data(t, count, sizeof(A) == 8 ? ScalarType::Double : ScalarType::Float, name));
}

const float* values_of(const Optional& t, int64_t count, const char* name) {
  return t ? data_of<float>(*t, count, name) : nullptr;
}

ContextArgs arguments(const Cuda& device, const Tensor& x, const Optional& residual, const Optional& mu,
                      const Optional& scale, const Optional& shift, const Tensor& gain, const Tensor& offset,
                      const std::string& similarity, bool unbiased, double eps, const std::string& act,
                      int64_t blocks) {
  ContextArgs k{};
  static_cast<Kept&>(k) = kept_in(device.shape_of(x), blocks, device.stream());
  const Shape& s = k.shape;
  k.act = act_of(act);
  k.similarity = similarity_of(similarity), k.kind = kind_of(k.similarity);
  k.unbiased = unbiased, k.eps = float(eps);
  k.x = dense(x, x, s, "x");
  if (residual) k.residual = dense(*residual, x, s, "residual");
  k.mu = values_of(mu, s.C, "mu");
  k.scale = values_of(scale, s.C, "scale");
  k.shift = values_of(shift, s.C, "shift");
  STD_TORCH_CHECK(!k.mu == !k.scale && !k.mu == !k.shift, "fusednorm: mu, scale and shift: expected all or none");
  k.gain = data_of<float>(gain, 1, "gain");
  k.offset = data_of<float>(offset, 1, "offset");
  return k;
}

struct ContextOperators {
  using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

  static Forward forward(Tensor x, Optional residual, Optional mu, Optional scale, Optional shift, Tensor gain,
                         Tensor offset, std::string similarity, bool unbiased, double eps, std::string act,
                         bool save_mask, int64_t blocks) {
    return forward_into(torch::stable::empty_like(x), x, residual, mu, scale, shift, gain, offset, similarity, unbiased,
                        eps, act, save_mask, blocks);
  }

  static void forward_inplace(Tensor x, Optional residual, Optional mu, Optional scale, Optional shift, Tensor gain,
                              Tensor offset, std::string similarity, bool unbiased, double eps, std::string act,
                              int64_t blocks) {
    forward_into(x, x, residual, mu, scale, shift, gain, offset, similarity, unbiased, eps, act, false, blocks);
  }

  // y: where it goes; may be x.
  static Forward forward_into(const Tensor& y, const Tensor& x, const Optional& residual, const Optional& mu,
                              const Optional& scale, const Optional& shift, const Tensor& gain, const Tensor& offset,
                              const std::string& similarity, bool unbiased, double eps, const std::string& act,
                              bool save_mask, int64_t blocks) {
    Cuda device(x);
    ContextArgs k =
        arguments(device, x, residual, mu, scale, shift, gain, offset, similarity, unbiased, eps, act, blocks);
    Tensor mask = save_mask ? new_mask(x) : nothing(x, ScalarType::Byte);
    Tensor mean = new_means(x), var = new_per_plane(x), scale_out = new_per_plane(x), shift_out = new_per_plane(x);
    const bool weighted = k.similarity != Similarity::none;
    const int64_t rows = weighted ? k.shape.N : 0, S = k.shape.positions();
    Tensor t = new_rows(x, rows, S, ScalarType::Float), p = new_rows(x, rows, S, ScalarType::Float),
           pooled = new_rows(x, rows, k.shape.C, ScalarType::Float);
    k.y = dense(y, x, k.shape, "y");
    if (save_mask) k.mask = static_cast<uint8_t*>(mask.data_ptr());
    k.mean = static_cast<double*>(mean.data_ptr());
    k.var = static_cast<float*>(var.data_ptr());
    k.outer_scale = static_cast<float*>(scale_out.data_ptr());
    k.outer_shift = static_cast<float*>(shift_out.data_ptr());
    if (weighted) {
      k.t = static_cast<float*>(t.data_ptr());
      k.p = static_cast<float*>(p.data_ptr());
      k.pooled = static_cast<float*>(pooled.data_ptr());
    }
    device.context_forward(k);
    return {y, mask, mean, var, scale_out, shift_out, t, p, pooled};
  }

  static Backward backward(Tensor dy, Tensor x, Optional residual, Optional mask, Tensor mean, Optional t, Optional p,
                           Optional pooled, Optional mu, Optional scale, Optional shift, Tensor gain, Tensor offset,
                           std::string similarity, bool unbiased, double eps, std::string act, bool write_g,
                           int64_t blocks) {
    Cuda device(x);
    ContextArgs k =
        arguments(device, x, residual, mu, scale, shift, gain, offset, similarity, unbiased, eps, act, blocks);
    const int64_t N = k.shape.N, C = k.shape.C, S = k.shape.positions();
    Tensor dx = torch::stable::empty_like(x), g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
    Tensor dscale = mu ? new_per_plane(x) : nothing(x, ScalarType::Float);
    Tensor dshift = mu ? new_per_plane(x) : nothing(x, ScalarType::Float),
           dgate = new_rows(x, 2, N, ScalarType::Double);
    k.dy = operand(dy, x, "dy");
    k.dy_dense = is_dense(k.dy, k.shape);
    k.y = dense(dx, x, k.shape, "dx");
    if (write_g) k.g = dense(g, x, k.shape, "g");
    k.mask = mask_data(mask, x);
    k.mean = data_of<double>(mean, N * C, "mean");
    if (k.similarity != Similarity::none) {
      STD_TORCH_CHECK(t && p && pooled, "fusednorm: t, p and pooled: expected all with a similarity");
      k.t = data_of<float>(*t, N * S, "t");
      k.p = data_of<float>(*p, N * S, "p");
      k.pooled = data_of<float>(*pooled, N * C, "pooled");
    }
    if (mu) k.dscale = static_cast<float*>(dscale.data_ptr()), k.dshift = static_cast<float*>(dshift.data_ptr());
    k.dgate = static_cast<double*>(dgate.data_ptr());
    device.context_backward(k);
    return {dx, g, dscale, dshift, dgate};
  }
};

}  // namespace

void Cuda::context_forward(ContextArgs& k) {
  k.exchange = exchange(k, 1);
  fusednorm::context_forward(k, stream_);
}

void Cuda::context_backward(ContextArgs& k) {
  k.exchange = exchange(k, 1);
  if (k.blocks > 1) k.gate_exchange = static_cast<double*>(memory(size_t(k.shape.N * k.blocks) * 2 * sizeof(double)));
  fusednorm::context_backward(k, stream_);
}

STABLE_TORCH_LIBRARY_IMPL(fusednorm, FUSEDNORM_KEY, m) {
  m.impl("context_forward.cuda", TORCH_BOX(&ContextOperators::forward));
  m.impl("context_forward_inplace.cuda", TORCH_BOX(&ContextOperators::forward_inplace));
  m.impl("context_backward.cuda", TORCH_BOX(&ContextOperators::backward));
}

}  // namespace fusednorm
