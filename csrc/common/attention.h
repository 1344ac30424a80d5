// The scalar formulas of Attentive Normalization's attention (AN eqs. 7 and 11), shared by host and device.
// Included inside the includer's namespace; head_exp and head_sqrt are the includer's, and FUSEDNORM_HD on a GPU.

#ifndef FUSEDNORM_HD
#define FUSEDNORM_HD inline
#endif

enum class AttentionInput { mean, mean_std, rsd };
enum class AttentionAct { relu, sigmoid, softmax, hsigmoid };

// s(m, v) of a plane: its mean, its mean and std, or mean/std, with std = sqrt(S/(S-1) v + eps); a plane of one
// position has no spread to correct.
template <class A>
struct AttentionSource {
  AttentionInput kind;
  A factor, eps;

  FUSEDNORM_HD explicit AttentionSource(const HeadArgs& k)
      : kind(AttentionInput(k.source)), factor(k.S > 1 ? A(k.S) / A(k.S - 1) : A(1)), eps(A(k.source_eps)) {}

  FUSEDNORM_HD bool has_std() const { return kind == AttentionInput::mean_std; }
  FUSEDNORM_HD A std(A v) const { return head_sqrt(v * factor + eps); }
  FUSEDNORM_HD A value(A m, A std) const { return kind == AttentionInput::rsd ? m / std : m; }

  // Adds to dm and dv what comes of ds, the derivative by value(), and ds_std, that by std() where has_std().
  FUSEDNORM_HD void gradient(A m, A v, A ds, A ds_std, A& dm, A& dv) const {
    const A q = A(1) / std(v);
    if (kind == AttentionInput::rsd) {
      dm += ds * q;
      dv -= ds * m * q * q * q * factor * A(0.5);
    } else {
      dm += ds;
      if (has_std()) dv += ds_std * q * factor * A(0.5);
    }
  }
};

// Act(a) for the elementwise ones; NaN passes.
template <class A>
FUSEDNORM_HD A attention_act(AttentionAct act, A a) {
  switch (act) {
    case AttentionAct::relu:
      return a < A(0) ? A(0) : a;
    case AttentionAct::sigmoid:
      return A(1) / (A(1) + head_exp(-a));
    case AttentionAct::hsigmoid: {
      A t = a + A(3);
      t = t < A(0) ? A(0) : t;
      return (t > A(6) ? A(6) : t) / A(6);
    }
    case AttentionAct::softmax:
      break;  // over all components: the includer's
  }
  return a;
}

// d Act(a) / da for the elementwise ones, from a and lambda = Act(a). At hsigmoid's corners the gradient passes, as
// torch.clamp's does.
template <class A>
FUSEDNORM_HD A attention_act_slope(AttentionAct act, A a, A lambda) {
  switch (act) {
    case AttentionAct::relu:
      return a <= A(0) ? A(0) : A(1);
    case AttentionAct::sigmoid:
      return lambda * (A(1) - lambda);
    case AttentionAct::hsigmoid:
      return a < A(-3) || a > A(3) ? A(0) : A(1) / A(6);
    case AttentionAct::softmax:
      break;
  }
  return A(1);
}
