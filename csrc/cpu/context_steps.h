// What the Normalization-Attention module calculates between its passes (csrc/cpu/context.cpp), a sample an item:
//   context_inner         center, z around it, and the weights of the position sums t = sum_c weight f(x - center)
//   context_weights       p = softmax(Phi(t))
//   context_gates         g = z_scale pooled + z_shift,  gate = sigmoid(gain (g - mean_c g)/sigma_c + offset);  outer = gate z
//   context_gates_grad, context_weights_grad, context_inner_grad    the way back; csrc/cuda/context_backward.cu's formulas
// Traffic: N×C and N×S values, in the caches. Included once per instruction set, inside that set's namespace.

template <class A>
inline A row_sum(const A* a, int64_t n) {
  Vec<A> sum = {};
  sweep<A>(n, [&](int64_t i, auto width) { sum += load(a + i, width); });
  return sum_lanes<A>(sum);
}

// NaN passes where it comes first; where it does not, the exponentials' sum has it.
template <class A>
inline A row_max(const A* a, int64_t n) {
  A largest = a[0];
  for (int64_t i = 1; i < n; ++i) largest = a[i] > largest ? a[i] : largest;
  return largest;
}

// A plane of z.
template <class A>
struct ContextPlane {
  A center, scale, shift, level;  // level: the plane mean less its rounding, the center

  ContextPlane(const ContextArrays& k, int64_t n, int64_t c) {
    const double mean = k.mean[n * k.C + c];
    center = A(mean), level = A(mean - double(center));
    scale = k.scale ? in<A>(k.scale)[c] : A(1);
    shift = k.scale ? scale * (center - in<A>(k.mu)[c]) + in<A>(k.shift)[c] : center;
  }

  A pooled(const ContextArrays& k, int64_t n, int64_t c) const {
    return k.pooled ? in<A>(k.pooled)[n * k.C + c] : level;
  }

  A weight(const ContextArrays& k) const {
    switch (k.similarity) {
      case Similarity::l1:
        return scale < A(0) ? -scale : scale;
      case Similarity::squared:
        return scale * scale;
      case Similarity::dot:
        return scale * (shift + scale * level);
      default:
        return scale / A(k.C);
    }
  }
};

template <class A>
inline void context_inner(const ContextArrays& k) {
  parallel_items(k.N, k.C, [&](int64_t n) {
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const ContextPlane<A> plane(k, n, c);
      out<A>(k.center)[i] = plane.center;
      out<A>(k.z_scale)[i] = plane.scale, out<A>(k.z_shift)[i] = plane.shift;
      out<A>(k.weight)[i] = plane.weight(k);
    }
  });
}

template <class A>
inline void context_weights(const ContextArrays& k) {
  parallel_items(k.N, 4 * k.S, [&](int64_t n) {
    const A* t = in<A>(k.t) + n * k.S;
    A* p = out<A>(k.p) + n * k.S;
    const bool difference = k.similarity == Similarity::mean_difference, dot = k.similarity == Similarity::dot;
    const A middle = difference ? row_sum(t, k.S) / A(k.S) : A(0);
    for (int64_t s = 0; s < k.S; ++s) {
      const A d = t[s] - middle;
      p[s] = dot ? t[s] : difference && d < A(0) ? d : -d;
    }
    const A largest = row_max(p, k.S);
    sweep<A>(k.S, [&](int64_t s, auto width) { store(p + s, head_exp(load(p + s, width) - largest), width); });
    const A share = A(1) / row_sum(p, k.S);
    for (int64_t s = 0; s < k.S; ++s) p[s] *= share;
  });
}

// Of a sample: NA eqs. 7-9. (`unbiased`: the official code's deviation, with eps outside the root.)
template <class A>
struct ContextGates {
  const ContextArrays& k;
  const int64_t n;
  Scratch<A> memory;
  A *h, *gate;
  A root, sigma;

  ContextGates(const ContextArrays& args, int64_t sample)
      : k(args), n(sample), memory(2 * args.C), h(memory.data), gate(h + args.C) {
    Scratch<double> context(k.C);
    double* g = context.data;
    double mean = 0, m2 = 0;
    for (int64_t c = 0; c < k.C; ++c) {
      const ContextPlane<A> plane(k, n, c);
      g[c] = double(plane.scale * plane.pooled(k, n, c)) + double(plane.shift);
      mean += g[c];
    }
    mean /= double(k.C);
    for (int64_t c = 0; c < k.C; ++c) m2 += (g[c] - mean) * (g[c] - mean);
    root = k.unbiased ? A(head_sqrt(m2 / double(max64(k.C - 1, 1)))) : A(head_sqrt(m2 / double(k.C) + k.eps));
    sigma = k.unbiased ? root + A(k.eps) : root;
    const A gain = *in<A>(k.gain), offset = *in<A>(k.offset);
    for (int64_t c = 0; c < k.C; ++c) {
      h[c] = A(g[c] - mean) / sigma;
      gate[c] = A(1) / (A(1) + head_exp(-(gain * h[c] + offset)));
    }
  }

  // dg, from da of the gate's argument a = gain h + offset, and over all channels its mean and that of da h.
  A back(int64_t c, A da, A mean_da, A mean_dah) const {
    const A correction = k.unbiased ? A(k.C) / A(max64(k.C - 1, 1)) * sigma / root : A(1);
    const A along = root > A(0) ? h[c] * mean_dah * correction : A(0);
    return *in<A>(k.gain) * (da - mean_da - along) / sigma;
  }
};

template <class A>
inline void context_gates(const ContextArrays& k) {
  parallel_items(k.N, 8 * k.C, [&](int64_t n) {
    const ContextGates<A> gates(k, n);
    for (int64_t c = 0, i = n * k.C; c < k.C; ++c, ++i) {
      const ContextPlane<A> plane(k, n, c);
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
      const ContextPlane<A> plane(k, n, c);
      da[c] = (plane.scale * dscale[c] + plane.shift * dshift[c]) * gates.gate[c] * (A(1) - gates.gate[c]);
      sum += double(da[c]), along += double(da[c]) * double(gates.h[c]);
    }
    k.dgate[n] = along, k.dgate[k.N + n] = sum;
    for (int64_t c = 0; c < k.C; ++c) {
      const ContextPlane<A> plane(k, n, c);
      const A dg = gates.back(c, da[c], A(sum / double(k.C)), A(along / double(k.C)));
      dpooled[c] = plane.scale * dg;
      dscale[c] = gates.gate[c] * dscale[c] + dg * plane.pooled(k, n, c);
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
    const A sign = k.similarity == Similarity::dot ? A(1) : A(-1);
    for (int64_t s = 0; s < k.S; ++s) {
      const A side = !difference ? A(1) : t[s] > middle ? A(1) : t[s] < middle ? A(-1) : A(0);
      d[s] = sign * side * p[s] * (d[s] - inner);
    }
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
      const ContextPlane<A> plane(k, n, c);
      const A dw = k.dw ? in<A>(k.dw)[i] : A(0), slope = k.slope ? in<A>(k.slope)[i] : A(0);
      A &dscale = out<A>(k.dscale)[i], &dshift = out<A>(k.dshift)[i], dm = 0;
      switch (k.similarity) {
        case Similarity::l1:
          dscale += plane.scale > A(0) ? dw : plane.scale < A(0) ? -dw : A(0);
          dm = -plane.weight(k) * slope;
          break;
        case Similarity::squared:
          dscale += 2 * plane.scale * dw;
          dm = -plane.weight(k) * slope;
          break;
        case Similarity::dot:
          dscale += (plane.shift + 2 * plane.scale * plane.level) * dw;
          dshift += plane.scale * dw;
          dm = plane.scale * plane.scale * dw;
          break;
        case Similarity::mean_difference:
          dscale += dw / A(k.C);
          break;
        case Similarity::none:
          dm = in<A>(k.dpooled)[i];
      }
      out<A>(k.dm)[i] = dm / A(k.S);
      if (k.mu) dscale += (plane.center - in<A>(k.mu)[c]) * dshift;  // around mu
    }
  });
}
