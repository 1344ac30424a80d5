// The Normalization-Attention module on the CPU, one operator a direction: the streaming kernels with context_steps.h
// between them. Schemas: fusednorm/engine/context_operators.py; passes: fusednorm/engine/context.py.
#include "../context_operators.h"
#include "operators.h"
#include "workspace.h"

namespace fusednorm {

namespace {

using Optional = std::optional<Tensor>;

// The arrays of one call and the tensors that they lie in.
class Context {
 public:
  const Tensor& x;
  const Shape shape;
  const Act act;
  ContextArrays k{};
  Workspace room;

  Context(const Tensor& map, const Optional& mu, const Optional& scale, const Optional& shift, const Tensor& gain,
          const Tensor& offset, const std::string& similarity, bool unbiased, double eps, const std::string& act_name)
      : x(map), shape(Cpu::shape_of(map)), act(act_of(act_name)), room(map) {
    STD_TORCH_CHECK(x.numel() > 0, "fusednorm: x: expected values, got an empty tensor");
    k.f64 = shape.type == Type::f64;
    k.N = shape.N, k.C = shape.C, k.S = shape.positions();
    k.similarity = similarity_of(similarity);
    k.unbiased = unbiased, k.eps = eps;
    auto take = [&](const Tensor& t, int64_t count, const char* name) {
      return dense_data(t, count, compute_type(x), name);
    };
    STD_TORCH_CHECK(mu.has_value() == scale.has_value() && mu.has_value() == shift.has_value(),
                    "fusednorm: mu, scale and shift: expected all or none");
    if (mu) k.mu = take(*mu, k.C, "mu"), k.scale = take(*scale, k.C, "scale"), k.shift = take(*shift, k.C, "shift");
    k.gain = take(gain, 1, "gain"), k.offset = take(offset, 1, "offset");
    for (void** to : {&k.center, &k.z_scale, &k.z_shift, &k.weight}) *to = room.planes();
  }

  bool weighted() const { return k.similarity != Similarity::none; }
  // Whose position sums are not around the plane mean, which nothing else depends on.
  bool needs_moments() const { return k.similarity != Similarity::mean_difference; }

  // sum_c weight f(x - center) at each position
  void position_sums(void* weight, Kind kind, void* to) const {
    PositionReduceArgs a{};
    a.shape = shape, a.kind = kind, a.x = operand(x, x, "x");
    a.center = room.of(k.center), a.weight = room.of(weight), a.t = to;
    kernels().position_reduce(a);
  }
  // sum_s q f(x - center), and with f'
  void plane_sums(const void* q, Kind kind, void* pooled, void* slope) const {
    PlanePoolArgs a{};
    a.shape = shape, a.kind = kind, a.x = operand(x, x, "x");
    a.center = room.of(k.center), a.q = q, a.pooled = room.of(pooled);
    if (kind != Kind::sum) a.slope = room.of(slope);
    kernels().plane_pool(a);
  }
  AffineArgs affine(const Optional& residual) const {
    AffineArgs a{};
    a.shape = shape, a.act = act, a.x = operand(x, x, "x"), a.residual = operand(residual, x, "residual");
    a.center = room.of(k.center), a.scale = room.of(k.outer_scale), a.shift = room.of(k.outer_shift);
    return a;
  }
};

void fill_means(const ContextArrays& k, double* mean) {
  for (int64_t i = 0; i < k.N * k.C; ++i)
    mean[i] = !k.mu ? 0 : k.f64 ? static_cast<const double*>(k.mu)[i % k.C] : static_cast<const float*>(k.mu)[i % k.C];
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// y: where it goes; may be x.
Forward forward_into(const Tensor& y, const Tensor& x, const Optional& residual, const Optional& mu,
                     const Optional& scale, const Optional& shift, const Tensor& gain, const Tensor& offset,
                     const std::string& similarity, bool unbiased, double eps, const std::string& act, bool save_mask) {
  Context c(x, mu, scale, shift, gain, offset, similarity, unbiased, eps, act);
  ContextArrays& k = c.k;
  const ScalarType type = compute_type(x);
  Tensor mask = save_mask ? new_mask(x) : nothing(x, ScalarType::Byte);
  Tensor mean = new_means(x), var = new_per_plane(x), outer_scale = new_per_plane(x), outer_shift = new_per_plane(x);
  const int64_t rows = c.weighted() ? k.N : 0;
  Tensor t = new_rows(x, rows, k.S, type), p = new_rows(x, rows, k.S, type), pooled = new_rows(x, rows, k.C, type);
  double* means_at = static_cast<double*>(mean.data_ptr());
  if (c.needs_moments()) {
    kernels().plane_moments({c.shape, operand(x, x, "x"), means(mean, x, "mean"), per_plane(var, x, "var")});
  } else {
    fill_means(k, means_at);
    torch::stable::zero_(var);
  }
  k.mean = means_at;
  k.outer_scale = outer_scale.data_ptr(), k.outer_shift = outer_shift.data_ptr();
  kernels().context_inner(k);
  if (c.weighted()) {
    k.t = t.data_ptr(), k.p = p.data_ptr(), k.pooled = pooled.data_ptr();
    c.position_sums(k.weight, kind_of(k.similarity), k.t);
    kernels().context_weights(k);
    c.plane_sums(k.p, Kind::sum, k.pooled, nullptr);
  }
  kernels().context_gates(k);
  AffineArgs a = c.affine(residual);
  a.y = operand(y, x, "y");
  if (save_mask) a.mask = static_cast<uint8_t*>(mask.data_ptr());
  Cpu(x).plane_affine(a);
  return {y, mask, mean, var, outer_scale, outer_shift, t, p, pooled};
}

Forward context_forward(Tensor x, Optional residual, Optional mu, Optional scale, Optional shift, Tensor gain,
                        Tensor offset, std::string similarity, bool unbiased, double eps, std::string act,
                        bool save_mask, int64_t) {
  return forward_into(torch::stable::empty_like(x), x, residual, mu, scale, shift, gain, offset, similarity, unbiased,
                      eps, act, save_mask);
}

void context_forward_inplace(Tensor x, Optional residual, Optional mu, Optional scale, Optional shift, Tensor gain,
                             Tensor offset, std::string similarity, bool unbiased, double eps, std::string act,
                             int64_t) {
  forward_into(x, x, residual, mu, scale, shift, gain, offset, similarity, unbiased, eps, act, false);
}

Backward context_backward(Tensor dy, Tensor x, Optional residual, Optional mask, Tensor mean, Optional t, Optional p,
                          Optional pooled, Optional mu, Optional scale, Optional shift, Tensor gain, Tensor offset,
                          std::string similarity, bool unbiased, double eps, std::string act, bool write_g, int64_t) {
  Context c(x, mu, scale, shift, gain, offset, similarity, unbiased, eps, act);
  ContextArrays& k = c.k;
  const ScalarType type = compute_type(x);
  k.mean = static_cast<double*>(dense_data(mean, k.N * k.C, ScalarType::Double, "mean"));
  if (c.weighted()) {
    STD_TORCH_CHECK(t && p && pooled, "fusednorm: t, p and pooled: expected all with a similarity");
    k.t = dense_data(*t, k.N * k.S, type, "t"), k.p = dense_data(*p, k.N * k.S, type, "p");
    k.pooled = dense_data(*pooled, k.N * k.C, type, "pooled");
  }
  Tensor dx = torch::stable::empty_like(x), dgate = new_rows(x, 2, k.N, ScalarType::Double);
  Tensor dscale = new_per_plane(x), dshift = new_per_plane(x);
  k.dscale = dscale.data_ptr(), k.dshift = dshift.data_ptr(), k.dgate = static_cast<double*>(dgate.data_ptr());
  for (void** to : {&k.outer_scale, &k.outer_shift, &k.dpooled, &k.dm}) *to = c.room.planes();
  kernels().context_inner(k);
  kernels().context_gates(k);
  // g, written by the first pass where it is dresidual, and where the last one would have to know z or the mask.
  const bool keep_g = write_g || (c.act != Act::identity && c.weighted() && (residual || mask));
  Tensor g = keep_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
  AffineArgs a = c.affine(residual);
  a.dy = operand(dy, x, "dy");
  a.mask = mask_data(mask, x);
  if (keep_g) a.y = operand(g, x, "g");
  a.dscale = c.room.of(k.dscale), a.dshift = c.room.of(k.dshift);
  kernels().plane_affine_reduce(a);
  if (keep_g) a.dy = a.y, a.act = Act::identity, a.residual = {}, a.mask = nullptr;
  a.y = operand(dx, x, "dx");
  kernels().context_gates_grad(k);
  if (!c.weighted()) {
    kernels().context_inner_grad(k);
    a.a = c.room.all(0), a.b = c.room.of(k.dm);
    kernels().plane_affine_grad(a);
  } else {
    const Kind kind = kind_of(k.similarity);
    k.dt = c.room.rows(k.N, k.S);
    c.position_sums(k.dpooled, Kind::sum, k.dt);
    kernels().context_weights_grad(k);
    if (k.mu || c.needs_moments()) {
      void *dw = c.room.planes(), *slope = kind == Kind::sum ? nullptr : c.room.planes();
      c.plane_sums(k.dt, kind, dw, slope);
      k.dw = dw, k.slope = slope;
    }
    kernels().context_inner_grad(k);
    PositionAffineArgs to{};
    to.shape = a.shape, to.act = a.act, to.x = a.x, to.residual = a.residual, to.dy = a.dy, to.y = a.y;
    to.e = {a.center, a.scale, a.shift, {}, nullptr};
    to.gain = c.room.all(1), to.bias = c.room.all(0);
    if (c.needs_moments()) to.a = c.room.all(0), to.b = c.room.of(k.dm);
    to.outer_count = 1, to.outers[0] = c.room.of(k.dpooled), to.rows[0] = k.p;
    to.weight = c.room.of(k.weight), to.h = k.dt, to.kind = kind;
    kernels().position_affine_grad(to);
  }
  if (!mu) dscale = nothing(x, type), dshift = nothing(x, type);
  if (!write_g) g = nothing(x, x.scalar_type());
  return {dx, g, dscale, dshift, dgate};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("context_forward.cpu", TORCH_BOX(&context_forward));
  m.impl("context_forward_inplace.cpu", TORCH_BOX(&context_forward_inplace));
  m.impl("context_backward.cpu", TORCH_BOX(&context_backward));
}

}  // namespace fusednorm
