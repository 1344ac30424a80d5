// The scalar formulas of Attentive Normalization's attention (AN eqs. 7 and 11), shared by host and device.
// Included inside the includer's namespace; head_exp and head_sqrt are the includer's.

enum class AttentionInput { mean, mean_std, rsd };
enum class AttentionAct { relu, sigmoid, softmax, hsigmoid };

// v -> the unbiased plane variance S/(S-1) v; a plane of one position has no spread to correct.
template <class A>
inline A unbiased_factor(int64_t S) {
  return S > 1 ? A(S) / A(S - 1) : A(1);
}

// Act(a) for the elementwise ones; NaN passes.
template <class A>
inline A attention_act(AttentionAct act, A a) {
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
inline A attention_act_slope(AttentionAct act, A a, A lambda) {
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
