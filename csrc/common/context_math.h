// The formulas of the Normalization-Attention module (NA eqs. 4-9; fusednorm/heads/context.py) for one plane, position or
// sample, on host and device: the includer supplies head_exp and head_sqrt. Included inside the includer's namespace.

#ifndef FUSEDNORM_HD
#define FUSEDNORM_HD inline
#endif

// A plane of z = scale*(x - center) + shift, what the gate is for.
template <class A>
struct ContextPlane {
  A center, scale, shift, level;  // level: the plane mean less its rounding, the center

  // mean: of x. mu, own_scale, own_shift: of the channel, z = own_scale*(x - mu) + own_shift; all null: z = x.
  FUSEDNORM_HD ContextPlane(double mean, const A* mu, const A* own_scale, const A* own_shift) {
    center = A(mean), level = A(mean - double(center));
    scale = own_scale ? *own_scale : A(1);
    shift = own_scale ? scale * (center - *mu) + *own_shift : center;
  }

  // Of the position sums t = sum_c weight*f(x - center).
  FUSEDNORM_HD A weight(Similarity similarity, int64_t C) const {
    switch (similarity) {
      case Similarity::l1:
        return scale < A(0) ? -scale : scale;
      case Similarity::squared:
        return scale * scale;
      case Similarity::dot:
        return scale * (shift + scale * level);
      default:
        return scale / A(C);
    }
  }

  // g = sum_s p z, from pooled = sum_s p (x - center)
  FUSEDNORM_HD double context(A pooled) const { return double(scale * pooled) + double(shift); }

  // What the way back of t gives to scale, shift and the plane mean, with dw = sum_s dt f(x - center), slope = sum_s dt f'.
  FUSEDNORM_HD void back(Similarity similarity, int64_t C, A dw, A slope, A& dscale, A& dshift, A& dmean) const {
    dmean = A(0);
    switch (similarity) {
      case Similarity::l1:
        dscale += scale > A(0) ? dw : scale < A(0) ? -dw : A(0);
        dmean = -weight(similarity, C) * slope;
        break;
      case Similarity::squared:
        dscale += 2 * scale * dw;
        dmean = -weight(similarity, C) * slope;
        break;
      case Similarity::dot:
        dscale += (shift + 2 * scale * level) * dw;
        dshift += scale * dw;
        dmean = scale * scale * dw;
        break;
      case Similarity::mean_difference:
        dscale += dw / A(C);
        break;
      case Similarity::none:
        break;
    }
  }
};

// Phi of a position's t; middle: the mean of t over positions, which mean_difference alone asks for.
template <class A>
FUSEDNORM_HD A context_score(Similarity similarity, A t, A middle) {
  if (similarity == Similarity::dot) return t;
  if (similarity != Similarity::mean_difference) return -t;
  const A d = t - middle;
  return d < A(0) ? d : -d;
}

// dt, from dp through the softmax, with inner = sum_s p dp. (Of mean_difference it is that of t less its mean.)
template <class A>
FUSEDNORM_HD A context_score_back(Similarity similarity, A t, A middle, A p, A dp, A inner) {
  const A slope = similarity == Similarity::dot               ? A(1)
                  : similarity != Similarity::mean_difference ? A(-1)
                  : t > middle                                ? A(-1)
                  : t < middle                                ? A(1)
                                                              : A(0);
  return slope * p * (dp - inner);
}

// The gate of each channel: sigmoid(gain*h + offset), h the context g standardized over channels. m2: sum_c (g - mean)².
// `unbiased`: the official code's deviation, with eps outside the root.
template <class A>
struct ContextGate {
  double mean;
  A root, sigma, gain, offset, correction;

  FUSEDNORM_HD ContextGate(double mean_g, double m2, int64_t C, bool unbiased, double eps, A own_gain, A own_offset)
      : mean(mean_g), gain(own_gain), offset(own_offset) {
    const double others = double(C > 1 ? C - 1 : 1);
    root = unbiased ? A(head_sqrt(m2 / others)) : A(head_sqrt(m2 / double(C) + eps));
    sigma = unbiased ? root + A(eps) : root;
    correction = unbiased ? A(double(C) / others) * sigma / root : A(1);
  }

  FUSEDNORM_HD A standardized(double g) const { return A(g - mean) / sigma; }
  FUSEDNORM_HD A gate(A h) const { return A(1) / (A(1) + head_exp(-(gain * h + offset))); }

  // da of the gate's argument a = gain*h + offset, from the gradients of gate*scale and gate*shift.
  FUSEDNORM_HD A argument_back(const ContextPlane<A>& plane, A gate, A dscale, A dshift) const {
    return (plane.scale * dscale + plane.shift * dshift) * gate * (A(1) - gate);
  }

  // dg, from da, and over all channels its mean and that of da*h.
  FUSEDNORM_HD A back(A h, A da, A mean_da, A mean_dah) const {
    const A along = root > A(0) ? h * mean_dah * correction : A(0);
    return gain * (da - mean_da - along) / sigma;
  }
};
