// What the Normalization-Attention module calculates between its passes (csrc/cpu/context.cpp), a sample an item:
//   context_inner         center, z around it, and the weights of the position sums t = sum_c weight f(x - center)
//   context_weights       p = softmax(Phi(t))
//   context_gates         g = z_scale pooled + z_shift,  gate = sigmoid(gain (g - mean_c g)/sigma_c + offset);  outer = gate z
//   context_gates_grad, context_weights_grad, context_inner_grad    the way back; formulas: csrc/common/context_math.h
// Traffic: N×C and N×S values, in the caches. Included once per instruction set, inside that set's namespace.

// NaN passes where it comes first; where it does not, the exponentials' sum has it.
template <class A>
inline A row_max(const A* a, int64_t n) {
  A largest = a[0];
  for (int64_t i = 1; i < n; ++i) largest = a[i] > largest ? a[i] : largest;
  return largest;
}

#include "../common/context_math.h"

template <class A>
inline ContextPlane<A> context_plane(const ContextArrays& k, int64_t n, int64_t c) {
  const auto at = [&](const void* values) { return values ? in<A>(values) + c : nullptr; };
  return {k.mean[n * k.C + c], at(k.mu), at(k.scale), at(k.shift)};
}

// sum_s p (x - center)
template <class A>
inline A context_pooled(const ContextArrays& k, const ContextPlane<A>& plane, int64_t n, int64_t c) {
  return k.pooled ? in<A>(k.pooled)[n * k.C + c] : plane.level;
}

template <class A>
inline void context_inner(const ContextArrays& k) {
  parallel_items(k.N, k.C, [&](int64_t n) {
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const auto plane = context_plane<A>(k, n, c);
      out<A>(k.center)[i] = plane.center;
      out<A>(k.z_scale)[i] = plane.scale, out<A>(k.z_shift)[i] = plane.shift;
      out<A>(k.weight)[i] = plane.weight(k.similarity, k.C);
    }
  });
}

template <class A>
inline void context_weights(const ContextArrays& k) {
  parallel_items(k.N, 4 * k.S, [&](int64_t n) {
    const A* t = in<A>(k.t) + n * k.S;
    A* p = out<A>(k.p) + n * k.S;
    const A middle = k.similarity == Similarity::mean_difference ? row_sum(t, k.S) / A(k.S) : A(0);
    for (int64_t s = 0; s < k.S; ++s) p[s] = context_score(k.similarity, t[s], middle);
    const A largest = row_max(p, k.S);
    sweep<A>(k.S, [&](int64_t s, auto width) { store(p + s, head_exp(load(p + s, width) - largest), width); });
    const A share = A(1) / row_sum(p, k.S);
    for (int64_t s = 0; s < k.S; ++s) p[s] *= share;
  });
}

// Of a sample.
template <class A>
struct ContextGates {
  Scratch<double> context;
  Scratch<A> memory;
  A *h, *gate;
  ContextGate<A> of;

  ContextGates(const ContextArrays& k, int64_t n)
      : context(k.C), memory(2 * k.C), h(memory.data), gate(h + k.C), of(gate_of(k, n, context.data)) {
    for (int64_t c = 0; c < k.C; ++c) {
      h[c] = of.standardized(context.data[c]);
      gate[c] = of.gate(h[c]);
    }
  }

  static ContextGate<A> gate_of(const ContextArrays& k, int64_t n, double* g) {
    double mean = 0, m2 = 0;
    for (int64_t c = 0; c < k.C; ++c) {
      const auto plane = context_plane<A>(k, n, c);
      mean += g[c] = plane.context(context_pooled(k, plane, n, c));
    }
    mean /= double(k.C);
    for (int64_t c = 0; c < k.C; ++c) m2 += (g[c] - mean) * (g[c] - mean);
    return {mean, m2, k.C, k.unbiased, k.eps, *in<A>(k.gain), *in<A>(k.offset)};
  }
};

template <class A>
inline void context_gates(const ContextArrays& k) {
  parallel_items(k.N, 8 * k.C, [&](int64_t n) {
    const ContextGates<A> gates(k, n);
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const auto plane = context_plane<A>(k, n, c);
      out<A>(k.outer_scale)[i] = gates.gate[c] * plane.scale;
      out<A>(k.outer_shift)[i] = gates.gate[c] * plane.shift;
    }
  });
}

template <class A>
inline void context_gates_grad(const ContextArrays& k) {
  parallel_items(k.N, 12 * k.C, [&](int64_t n) {
    const ContextGates<A> gates(k, n);
    A *dscale = out<A>(k.dscale) + n * k.C, *dshift = out<A>(k.dshift) + n * k.C,
      *dpooled = out<A>(k.dpooled) + n * k.C;
    Scratch<A> arguments(k.C);
    A* da = arguments.data;
    double sum = 0, along = 0;
    for (int64_t c = 0; c < k.C; ++c) {
      da[c] = gates.of.argument_back(context_plane<A>(k, n, c), gates.gate[c], dscale[c], dshift[c]);
      sum += double(da[c]), along += double(da[c]) * double(gates.h[c]);
    }
    k.dgate[n] = along, k.dgate[k.N + n] = sum;
    for (int64_t c = 0; c < k.C; ++c) {
      const auto plane = context_plane<A>(k, n, c);
      const A dg = gates.of.back(gates.h[c], da[c], A(sum / double(k.C)), A(along / double(k.C)));
      dpooled[c] = plane.scale * dg;
      dscale[c] = gates.gate[c] * dscale[c] + dg * context_pooled(k, plane, n, c);
      dshift[c] = gates.gate[c] * dshift[c] + dg;
    }
  });
}

template <class A>
inline void context_weights_grad(const ContextArrays& k) {
  parallel_items(k.N, 4 * k.S, [&](int64_t n) {
    const A *t = in<A>(k.t) + n * k.S, *p = in<A>(k.p) + n * k.S;
    A* d = out<A>(k.dt) + n * k.S;
    const bool difference = k.similarity == Similarity::mean_difference;
    const A inner = dot(p, d, k.S), middle = difference ? row_sum(t, k.S) / A(k.S) : A(0);
    for (int64_t s = 0; s < k.S; ++s) d[s] = context_score_back(k.similarity, t[s], middle, p[s], d[s], inner);
    if (!difference) return;
    const A mean = row_sum(d, k.S) / A(k.S);  // t less its mean
    for (int64_t s = 0; s < k.S; ++s) d[s] -= mean;
  });
}

// The planes' own, with dw and slope, null where nobody wants what they are for.
template <class A>
inline void context_inner_grad(const ContextArrays& k) {
  parallel_items(k.N, 4 * k.C, [&](int64_t n) {
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const auto plane = context_plane<A>(k, n, c);
      const A dw = k.dw ? in<A>(k.dw)[i] : A(0), slope = k.slope ? in<A>(k.slope)[i] : A(0);
      A &dscale = out<A>(k.dscale)[i], &dshift = out<A>(k.dshift)[i], dm;
      plane.back(k.similarity, k.C, dw, slope, dscale, dshift, dm);
      if (k.similarity == Similarity::none) dm = in<A>(k.dpooled)[i];
      out<A>(k.dm)[i] = dm / A(k.S);
      if (k.mu) dscale += (plane.center - in<A>(k.mu)[c]) * dshift;  // around mu
    }
  });
}
