// head, head_grad: the N×C calculation between the passes, forward and backward; formulas in docs/engine.md.
//   standardization  mu and var of every plane, over whatever it shares them with;  r = 1/sqrt(var + eps)
//   recalibration    Gamma and Beta: parameters, or parameters times what the planes' moments say
//   scale = Gamma r,  shift = Beta + scale (m - mu)                       m: the plane mean rounded, the kernels' pivot
// Traffic: a few sweeps over N×C and K×C values, all in cache. Work: one item a sample, or a row for the weights'
// gradients. Included once per instruction set, inside that set's namespace.

inline float head_exp(float x) { return __builtin_expf(x); }
inline double head_exp(double x) { return __builtin_exp(x); }
inline float head_sqrt(float x) { return __builtin_sqrtf(x); }
inline double head_sqrt(double x) { return __builtin_sqrt(x); }

#include "../common/attention.h"
#include "../common/restrict.h"
#include "../common/head_math.h"
#include "../common/plane_statistics.h"
#include "../common/switchable.h"
#include "head_rows.h"
#include "head_products.h"
#include "head_standardize.h"
#include "head_standardize_grad.h"
#include "head_sample_norm.h"
#include "head_recalibrate.h"
#include "head_gates.h"
#include "head_plane_gates.h"
#include "head_response.h"

template <class A>
void head(const HeadArgs& k) {
  const int64_t C = k.C;
  const Standardization<A> standard(k);
  auto finish = [&](int64_t n, const A* gamma, const A* beta) {
    const A *m = in<A>(k.m) + n * C, *r = standard.r_of(n);
    const double* mu = standard.mu_of(n);
    A *scale = out<A>(k.scale) + n * C, *shift = out<A>(k.shift) + n * C;
    for (int64_t c = 0; c < C; ++c) {
      scale[c] = gamma ? gamma[c] * r[c] : r[c];
      shift[c] = shift_at_pivot(beta ? beta[c] : A(0), scale[c], m[c], mu[c]);
    }
  };
  switch (k.recalibrate) {
    case Recalibrate::affine:
      return affine_maps<A>(k, finish);
    case Recalibrate::attentive:
      return attentive<A>(k, finish);
    case Recalibrate::scaling:
      return scaling(k, standard, finish);
    case Recalibrate::squeeze_excite:
      return squeeze_excite(k, standard, finish);
    case Recalibrate::channel_attention:
    case Recalibrate::style:
    case Recalibrate::gather_excite:
      return plane_gates(k, standard, finish);
    case Recalibrate::global_response:
      return global_response(k, standard, finish);
  }
}

// The recalibration's way back adds to dm, dv and, where it looks at x_hat, to dmu and dvar; then the standardization's
// takes those.
template <class A>
void head_grad(const HeadGradArgs& to) {
  const HeadArgs& k = to.head;
  const int64_t N = k.N, C = k.C;
  const A *dscale = in<A>(to.dscale), *dshift = in<A>(to.dshift), *m = in<A>(k.m), *scale = in<A>(k.scale);
  const Standardization<A> standard(k);
  Scratch<A> dgamma(N * C);
  parallel_items(N, C, [&](int64_t n) {
    const double* mu = standard.mu_of(n);
    const A* r = standard.r_of(n);
    for (int64_t c = 0, i = n * C; c < C; ++c, ++i)
      dgamma.data[i] = gamma_gradient(r[c], dscale[i], dshift[i], m[i], mu[c]);
  });
  Scratch<A> moments(2 * N * C, true);
  const bool totals = (k.recalibrate != Recalibrate::affine && k.recalibrate != Recalibrate::attentive) ||
                      k.standardize == Standardize::switchable || k.standardize == Standardize::representative ||
                      k.standardize == Standardize::filter_response;
  Scratch<double> sums(totals ? 2 * N * C : 0);
  const WayBack<A> way{to,
                       k,
                       standard,
                       dgamma.data,
                       dshift,
                       moments.data,
                       moments.data + N * C,
                       totals ? sums.data : nullptr,
                       totals ? sums.data + N * C : nullptr};
  if (totals)
    parallel_items(N, C, [&](int64_t n) {
      const A* r = standard.r_of(n);
      for (int64_t c = 0, i = n * C; c < C; ++c, ++i) {
        way.dmu[i] = mu_gradient(scale[i], dshift[i]);
        way.dvar[i] = k.standardize == Standardize::filter_response
                          ? mean_square_gradient(scale[i], dscale[i], dshift[i], k.mean[i], in<A>(k.v)[i], k.eps)
                          : var_gradient(dgamma.data[i], scale[i], r[c]);
      }
    });
  switch (k.recalibrate) {
    case Recalibrate::affine:
      affine_grad(way);
      break;
    case Recalibrate::attentive:
      attentive_grad(way);
      break;
    case Recalibrate::scaling:
      scaling_grad(way);
      break;
    case Recalibrate::squeeze_excite:
      squeeze_excite_grad(way);
      break;
    case Recalibrate::channel_attention:
    case Recalibrate::style:
    case Recalibrate::gather_excite:
      plane_gates_grad(way);
      break;
    case Recalibrate::global_response:
      global_response_grad(way);
  }
  standardize_grad(way);
  if (to.a == nullptr) return;
  parallel_items(N, C, [&](int64_t n) {
    for (int64_t i = n * C; i < (n + 1) * C; ++i) {
      out<A>(to.a)[i] = a_of(way.dv[i], k.S);
      out<A>(to.b)[i] = b_of(way.dm[i], k.S);
    }
  });
}
