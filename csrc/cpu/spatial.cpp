// Representative BatchNorm with statistics over channels at each position on the CPU, one operator a direction: the
// streaming kernels and the head with spatial_steps.h between them. Schemas: fusednorm/engine/spatial_operators.py;
// passes: fusednorm/engine/spatial.py.
#include "../layer.h"
#include "../position_operators.h"
#include "operators.h"
#include "workspace.h"

namespace fusednorm {

namespace {

// The layer, in the order of the operators' schemas.
struct Representative {
  Optional weight, bias, running_mean, running_var, center_weight, gate_weight, gate_bias;
  std::string center, scale, restrict_;
  double eps;
  std::string act;

  static bool spatial(const std::string& statistic) { return statistic.rfind("spatial", 0) == 0; }
  bool centres() const { return spatial(center); }
  bool scales() const { return spatial(scale); }
};

// The arrays of one call, whichever the direction.
class Spatial {
 public:
  const Tensor& x;
  const Representative& layer;
  const Shape shape;
  Workspace room;
  SpatialArrays k{};
  HeadArgs head{};

  Spatial(const Tensor& map, const Representative& l)
      : x(map), layer(l), shape(Cpu::shape_of(map)), room(map), take_(map) {
    STD_TORCH_CHECK(x.numel() > 0, "fusednorm: x: expected values, got an empty tensor");
    for (const std::string* name : {&l.center, &l.scale})
      STD_TORCH_CHECK(l.spatial(*name) || *name == "none" || *name == "mean" || *name == "std",
                      "fusednorm: center and scale: expected none, mean, std, spatial_mean or spatial_std, got '",
                      *name, "'");
    STD_TORCH_CHECK(l.running_mean.has_value() == l.running_var.has_value() &&
                        l.center_weight.has_value() == (l.center != "none") &&
                        l.gate_weight.has_value() == (l.scale != "none") &&
                        l.gate_bias.has_value() == (l.scale != "none") && (l.centres() || l.scales()),
                    "fusednorm: a layer: expected the tensors of its statistics, one of them spatial");
    k.f64 = shape.type == Type::f64;
    k.N = shape.N, k.C = shape.C, k.S = shape.positions();
    k.batch = !l.running_mean;
    weight_ = take_(l.weight, k.C, "weight"), bias_ = take_(l.bias, k.C, "bias");
    gate_weight_ = take_(l.gate_weight, k.C, "gate_weight"), gate_bias_ = take_(l.gate_bias, k.C, "gate_bias");
    const void* center_weight = take_(l.center_weight, k.C, "center_weight");
    for (void** to : {&k.center, &k.scale, &k.shift}) *to = room.planes();
    if (l.centres()) {
      k.center_weight = center_weight, k.centering = statistic_of(l.center);
      for (void** to : {&k.centred_var, &k.pivot, &k.rest, &k.outer}) *to = room.planes();
      k.centred_mean = static_cast<double*>(room.means());
      k.row = room.rows(k.N, k.S);
      for (double** to : {&k.level, &k.spread}) *to = room.doubles(k.N);
    }
    if (l.scales()) {
      k.scaling = statistic_of(l.scale);
      k.u = k.scaling == Statistic::mean ? nullptr : room.rows(k.N, k.S);
    }
    one_ = room.all(1), zero_ = room.all(0);
    set_head(center_weight);
  }

  bool needs_moments() const { return head.needs_moments() || layer.centres(); }
  PerPlane one() const { return one_; }
  Operand map(const Tensor& t, const char* name) const { return operand(t, x, name); }

  void step(SpatialStep which) const { kernels().spatial_step(which, k); }

  // After `pivots`, from the moments of x and, where it centres, of t: what position_affine takes but u.
  void planes() {
    if (layer.centres()) step(SpatialStep::row), step(SpatialStep::planes);
    head.mean = layer.centres() ? k.centred_mean : k.mean;
    head.v = layer.centres() ? k.centred_var : k.var;
    head.m = layer.centres() ? k.pivot : k.center;
    head.scale = k.scale, head.shift = k.shift;
    kernels().head(head);
    if (layer.centres()) step(SpatialStep::outer);
  }

  Standardized standardized() const {
    Standardized e{room.of(k.center), room.of(k.scale), room.of(k.shift), {}, nullptr};
    if (layer.centres()) e.outer = room.of(k.outer), e.t = k.row;
    return e;
  }

  // u from its moments.
  const void* statistic() const {
    if (!k.u) return k.u_mean;
    step(SpatialStep::u);
    return k.u;
  }

  PositionAffineArgs affine(const Optional& residual) const {
    PositionAffineArgs a{};
    a.shape = shape, a.act = act_of(layer.act);
    a.x = map(x, "x"), a.residual = operand(residual, x, "residual");
    a.e = standardized();
    a.gain = one_, a.bias = zero_;
    if (layer.scales()) {
      if (weight_) a.gain = channels(weight_);
      if (bias_) a.bias = channels(bias_);
      a.gate_weight = channels(gate_weight_), a.gate_bias = channels(gate_bias_);
      a.restrict_ = restrict_of(layer.restrict_);
      a.u = statistic();
    }
    return a;
  }

  void position_moments(const Standardized& e, const Tensor& mean, const Tensor& var) const {
    PositionMomentsArgs a{};
    a.shape = shape, a.x = map(x, "x"), a.e = e;
    a.mean = mean.data_ptr(), a.var = var.data_ptr();
    kernels().position_moments(a);
  }

 private:
  Parameters take_;
  const void *weight_, *bias_, *gate_weight_, *gate_bias_;
  PerPlane one_, zero_;

  static PerPlane channels(const void* values) { return {const_cast<void*>(values), 0, 1}; }

  // What is of planes: the standardization, of the centred map where positions centre it, and the affine map, unless
  // positions scale it.
  void set_head(const void* center_weight) {
    head.f64 = k.f64, head.N = k.N, head.C = k.C, head.S = k.S, head.eps = layer.eps;
    head.running_mean = take_(layer.running_mean, k.C, "running_mean");
    head.running_var = take_(layer.running_var, k.C, "running_var");
    if (layer.center == "mean" || layer.center == "std") {
      head.standardize = Standardize::representative;
      head.center_weight = center_weight, head.center_std = layer.center == "std";
    }
    if (layer.scales()) return;
    head.weight = weight_, head.bias = bias_;
    if (layer.scale == "none") return;
    head.recalibrate = Recalibrate::scaling;
    head.source = layer.scale == "std", head.gate = int(restrict_of(layer.restrict_));
    head.gate_weight = gate_weight_, head.gate_bias = gate_bias_;
  }
};

void fill_means(const Spatial& s, const Tensor& mean) {
  double* to = static_cast<double*>(mean.data_ptr());
  const void* from = s.head.running_mean;
  for (int64_t i = 0; i < s.k.N * s.k.C; ++i)
    to[i] = s.k.f64 ? static_cast<const double*>(from)[i % s.k.C] : static_cast<const float*>(from)[i % s.k.C];
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// y: where it goes; may be x.
Forward forward_into(const Tensor& y, const Tensor& x, const Optional& residual, const Representative& layer) {
  Spatial s(x, layer);
  SpatialArrays& k = s.k;
  const ScalarType type = compute_type(x);
  const int64_t t_rows = layer.centres() ? k.N : 0, u_rows = layer.scales() ? k.N : 0;
  Tensor mean = new_means(x), var = new_per_plane(x);
  Tensor t_mean = new_rows(x, t_rows, k.S, type), t_var = new_rows(x, t_rows, k.S, type);
  Tensor u_mean = new_rows(x, u_rows, k.S, type), u_var = new_rows(x, u_rows, k.S, type);
  Tensor cov = new_rows(x, t_rows, k.C, type);
  const int64_t channels[] = {k.batch ? k.C : 0};
  Tensor batch_mean = torch::stable::new_empty(x, {channels, 1}, type);
  Tensor batch_var = torch::stable::new_empty(x, {channels, 1}, type);
  if (s.needs_moments()) {
    kernels().plane_moments({s.shape, s.map(x, "x"), means(mean, x, "mean"), per_plane(var, x, "var")});
  } else {
    fill_means(s, mean);
    torch::stable::zero_(var);
  }
  k.mean = static_cast<const double*>(mean.data_ptr()), k.var = var.data_ptr();
  s.head.batch_mean = data_or_null(batch_mean), s.head.batch_var = data_or_null(batch_var);
  s.step(SpatialStep::pivots);
  if (layer.centres()) {
    PositionMomentsPoolArgs pool{s.shape, s.map(x, "x"), s.room.of(k.center), k.centering, 1};
    pool.mean = t_mean.data_ptr(), pool.var = t_var.data_ptr(), pool.cov = per_plane(cov, x, "cov");
    kernels().position_moments_pool(pool);
    k.t_mean = pool.mean, k.t_var = pool.var, k.cov = cov.data_ptr();
  }
  s.planes();
  if (layer.scales()) {
    s.position_moments(s.standardized(), u_mean, u_var);
    k.u_mean = u_mean.data_ptr(), k.u_var = u_var.data_ptr();
  }
  PositionAffineArgs a = s.affine(residual);
  a.y = s.map(y, "y");
  Cpu(x).position_affine(a);
  return {y, mean, var, t_mean, t_var, cov, u_mean, u_var, batch_mean, batch_var};
}

Forward spatial_forward(Tensor x, Optional residual, Optional weight, Optional bias, Optional running_mean,
                        Optional running_var, Optional center_weight, Optional gate_weight, Optional gate_bias,
                        std::string center, std::string scale, std::string restrict_, double eps, std::string act) {
  return forward_into(torch::stable::empty_like(x), x, residual,
                      {weight, bias, running_mean, running_var, center_weight, gate_weight, gate_bias, center, scale,
                       restrict_, eps, act});
}

std::tuple<Tensor, Tensor> spatial_forward_inplace(Tensor x, Optional residual, Optional weight, Optional bias,
                                                   Optional running_mean, Optional running_var, Optional center_weight,
                                                   Optional gate_weight, Optional gate_bias, std::string center,
                                                   std::string scale, std::string restrict_, double eps,
                                                   std::string act) {
  const Forward found = forward_into(x, x, residual,
                                     {weight, bias, running_mean, running_var, center_weight, gate_weight, gate_bias,
                                      center, scale, restrict_, eps, act});
  return {std::get<8>(found), std::get<9>(found)};
}

Backward spatial_backward(Tensor dy, Tensor x, Optional residual, Tensor mean, Tensor var, Tensor t_mean, Tensor t_var,
                          Tensor cov, Tensor u_mean, Tensor u_var, Optional weight, Optional bias,
                          Optional running_mean, Optional running_var, Optional center_weight, Optional gate_weight,
                          Optional gate_bias, std::string center, std::string scale, std::string restrict_, double eps,
                          std::string act, bool need_dx, bool write_g) {
  const Representative layer{weight,    bias,   running_mean, running_var, center_weight, gate_weight,
                             gate_bias, center, scale,        restrict_,   eps,           act};
  Spatial s(x, layer);
  SpatialArrays& k = s.k;
  const ScalarType type = compute_type(x);
  k.mean = static_cast<const double*>(dense_data(mean, k.N * k.C, ScalarType::Double, "mean"));
  k.var = dense_data(var, k.N * k.C, type, "var");
  if (layer.centres()) {
    k.t_mean = dense_data(t_mean, k.N * k.S, type, "t_mean"), k.t_var = dense_data(t_var, k.N * k.S, type, "t_var");
    k.cov = dense_data(cov, k.N * k.C, type, "cov");
  }
  if (layer.scales())
    k.u_mean = dense_data(u_mean, k.N * k.S, type, "u_mean"), k.u_var = dense_data(u_var, k.N * k.S, type, "u_var");
  s.step(SpatialStep::pivots);
  s.planes();

  const auto gradient = [&](const Optional& of) { return gradient_of(x, of, Cpu::adds_gradients); };
  Tensor dx = need_dx ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
  Tensor g = write_g ? torch::stable::empty_like(x) : nothing(x, x.scalar_type());
  Tensor dweight = gradient(weight), dbias = gradient(bias), dcenter_weight = gradient(center_weight);
  Tensor dgate_weight = gradient(gate_weight), dgate_bias = gradient(gate_bias);

  PositionAffineArgs a = s.affine(residual);
  a.dy = s.map(dy, "dy");
  void* sums = s.room.rows(7 * k.N, k.C);
  k.sums = a.sums = sums;
  const Operand to_g = write_g ? s.map(g, "g") : Operand{};
  if (layer.scales()) {
    for (void** to : {&k.u_offset, &k.u_slope, &k.e_offset, &k.e_slope}) *to = s.room.rows(k.N, k.S);
    s.step(SpatialStep::slopes);
    k.du = a.du = s.room.rows(k.N, k.S);
    a.y = to_g, a.du_offset = k.u_offset, a.du_slope = k.u_slope;
    kernels().position_affine_spread_reduce(a);
    s.step(SpatialStep::through_u);
    a.e_offset = k.e_offset, a.e_slope = k.e_slope;
  } else {
    a.y = to_g;
    kernels().position_affine_reduce(a);
  }
  if (write_g) a.dy = to_g, a.act = Act::identity, a.residual = {};

  HeadGradArgs back{};
  k.dscale = s.room.planes();
  back.head = s.head, back.dscale = k.dscale, back.dshift = sums;  // of de
  if (s.head.needs_moments()) back.a = s.room.planes(), back.b = s.room.planes();
  void *&to_weight = layer.scales() ? k.dweight : back.dweight, *&to_bias = layer.scales() ? k.dbias : back.dbias;
  to_weight = data_or_null(dweight), to_bias = data_or_null(dbias);
  (layer.scales() ? k.dgate_weight : back.dgate_weight) = data_or_null(dgate_weight);
  (layer.scales() ? k.dgate_bias : back.dgate_bias) = data_or_null(dgate_bias);
  (layer.centres() ? k.dcenter_weight : back.dcenter_weight) = data_or_null(dcenter_weight);
  s.step(SpatialStep::cotangents);
  kernels().head_grad(back);
  k.a = back.a, k.b = back.b;
  if (layer.centres()) {
    for (void** to : {&k.pool, &k.away}) *to = s.room.planes();
    for (double** to : {&k.dlevel, &k.dspread, &k.middle}) *to = s.room.doubles(k.N);
    s.step(SpatialStep::centering);
  }
  if (!need_dx) return {dx, g, dweight, dbias, dcenter_weight, dgate_weight, dgate_bias};
  a.y = {};
  if (layer.centres()) {
    const bool deviation = k.centering == Statistic::deviation;
    a.dt = k.drow = s.room.rows(k.N, k.S), a.pool = s.room.of(k.pool), a.du = nullptr;
    kernels().position_affine_spread(a);
    if (deviation) k.h = s.room.rows(k.N, k.S), k.offset = s.room.rows(k.N, k.S);
    s.step(SpatialStep::row_grad);
    const PerPlane ones = s.one(), pool = s.room.of(k.pool);
    if (deviation) {
      a.weight = ones, a.h = k.h, a.kind = Kind::square;
      a.outers[a.outer_count] = s.room.of(k.away), a.rows[a.outer_count++] = k.drow;
      a.outers[a.outer_count] = ones, a.rows[a.outer_count++] = k.offset;
    } else {
      a.outers[a.outer_count] = ones, a.rows[a.outer_count++] = k.drow;
    }
    a.outers[a.outer_count] = pool, a.rows[a.outer_count++] = k.row;
  }
  if (back.a) a.a = s.room.of(back.a), a.b = s.room.of(back.b);
  a.y = s.map(dx, "dx");
  kernels().position_affine_grad(a);
  return {dx, g, dweight, dbias, dcenter_weight, dgate_weight, dgate_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusednorm, CPU, m) {
  m.impl("spatial_forward.cpu", TORCH_BOX(&spatial_forward));
  m.impl("spatial_forward_inplace.cpu", TORCH_BOX(&spatial_forward_inplace));
  m.impl("spatial_backward.cpu", TORCH_BOX(&spatial_backward));
}

}  // namespace fusednorm
