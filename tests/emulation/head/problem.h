// A head with made-up inputs, and its outputs by name; one for the CPU's, one for the GPU's.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "csrc/common/arguments.h"

namespace fusednorm {

enum class Norm { none, batch, running };  // of the attention

struct Case {
  bool f64;
  int64_t N, C, S;
  Standardize standardize;
  bool running;
  int64_t groups;
  Recalibrate recalibrate = Recalibrate::affine;
  int64_t K = 0;
  int source = 0, gate = 0;
  Norm norm = Norm::none;
  bool affine = true, biases = true, need_dx = true;  // biases: of the layers in the head
  int64_t scopes = 0, ratio_groups = 1;               // switchable; a digit each, 1 + Over, the first lowest
  bool unbiased = false, center_std = false;

  std::string text() const {
    std::string s = f64 ? "double" : "float";
    auto add = [&](const char* name, int64_t value) { s += std::string(" ") + name + "=" + std::to_string(value); };
    add("N", N), add("C", C), add("S", S), add("standardize", int(standardize)), add("running", running);
    add("groups", groups), add("recalibrate", int(recalibrate)), add("K", K), add("source", source), add("gate", gate);
    add("norm", int(norm)), add("affine", affine), add("biases", biases), add("need_dx", need_dx);
    if (scopes) add("scopes", scopes), add("ratio_groups", ratio_groups), add("unbiased", unbiased);
    if (standardize == Standardize::representative) add("center_std", center_std);
    return s;
  }

  bool attentive() const { return recalibrate == Recalibrate::attentive; }
  int64_t width() const { return attentive() && source == 1 ? 2 * C : C; }
  bool batch_statistics() const {
    bool batch = standardize == Standardize::batch || standardize == Standardize::representative;
    for (int64_t rest = scopes; rest; rest /= 16) batch = batch || rest % 16 == 1 + int(Over::batch);
    return batch && !running;
  }
};

// Each in memory of its own, so that AddressSanitizer sees what goes beyond it.
struct Array {
  bool f64;
  std::vector<unsigned char> bytes;

  void* data() { return bytes.data(); }
  int64_t size() const { return int64_t(bytes.size()) / (f64 ? 8 : 4); }
  double operator[](int64_t i) const {
    double d;
    float f;
    if (f64) return memcpy(&d, &bytes[size_t(i) * 8], 8), d;
    return memcpy(&f, &bytes[size_t(i) * 4], 4), f;
  }
  void set(int64_t i, double d) {
    const float f = float(d);
    f64 ? memcpy(&bytes[size_t(i) * 8], &d, 8) : memcpy(&bytes[size_t(i) * 4], &f, 4);
  }
};

class Problem {
 public:
  const Case c;
  HeadGradArgs to{};
  std::vector<std::string> forward_outputs, backward_outputs;

  HeadArgs& k() { return to.head; }
  Array& operator[](const std::string& name) { return arrays_.at(name); }

  // Outputs start as NaN, for the GPU's head is to write all of them, or 0, for the CPU's adds to some.
  Problem(const Case& options, double start) : c(options), start_(start) {
    const int64_t planes = c.N * c.C, affine = (c.attentive() ? c.K : 1) * c.C;
    HeadArgs& h = k();
    h.f64 = c.f64, h.N = c.N, h.C = c.C, h.S = c.S, h.K = c.K, h.groups = c.groups, h.eps = 1e-5;
    h.standardize = c.standardize, h.recalibrate = c.recalibrate, h.source = c.source, h.gate = c.gate;
    const bool plain = c.standardize == Standardize::identity || (c.standardize == Standardize::batch && c.running);
    const bool needs_moments = c.recalibrate != Recalibrate::affine || !plain;
    if (needs_moments) {
      h.mean = static_cast<double*>(input("mean", planes, true, gauss(3, 1)));
      h.v = input("v", planes, c.f64, c.S > 1 ? positive() : gauss(0, 0));
    } else {
      h.mean = static_cast<double*>(output("mean", planes, true));
      h.v = output("v", planes, c.f64);
    }
    if (c.running) {
      h.running_mean = input("running_mean", c.C, c.f64, gauss(3, 1));
      h.running_var = input("running_var", c.C, c.f64, positive());
    }
    if (c.scopes) ratios();
    if (c.standardize == Standardize::representative) {
      h.center_std = c.center_std;
      h.center_weight = input("center_weight", c.C, c.f64, gauss(0, 0.5));
      to.dcenter_weight = gradient("dcenter_weight", c.C);
    }
    if (c.affine || c.attentive()) {
      h.weight = input("weight", affine, c.f64, gauss(1, 0.3));
      h.bias = input("bias", affine, c.f64, gauss(0, 0.3));
      to.dweight = gradient("dweight", affine), to.dbias = gradient("dbias", affine);
    }
    if (c.K) layer();
    if (c.recalibrate == Recalibrate::scaling || c.recalibrate == Recalibrate::squeeze_excite) gate();
    if (c.recalibrate == Recalibrate::channel_attention) window();
    if (c.recalibrate == Recalibrate::style) style();
    if (c.recalibrate == Recalibrate::global_response) h.source_eps = 1e-3;
    h.scale = output("scale", planes, c.f64), h.shift = output("shift", planes, c.f64);
    if (c.batch_statistics())
      h.batch_mean = output("batch_mean", c.C, c.f64), h.batch_var = output("batch_var", c.C, c.f64);
    to.dscale = input("dscale", planes, c.f64, gauss(0, 1));
    to.dshift = input("dshift", planes, c.f64, gauss(0, 1));
    if (h.needs_moments() && c.need_dx) to.a = gradient("a", planes), to.b = gradient("b", planes);
  }

  // The CPU's head has the rounded means from its caller and, without moments, the running ones.
  void fill_means() {
    Array &mean = arrays_.at("mean"), &m = arrays_["m"];
    m = {c.f64, std::vector<unsigned char>(size_t(mean.size()) * (c.f64 ? 8 : 4))};
    for (int64_t i = 0; i < mean.size(); ++i) {
      if (!k().needs_moments()) mean.set(i, c.running ? arrays_.at("running_mean")[i % c.C] : 0);
      m.set(i, mean[i]);
    }
    k().m = m.data();
  }

  // What norm_backward has of forward's results: some, and from the other problem.
  void forward_done(Problem& other) {
    for (const char* name : {"mean", "v", "scale", "z"})
      if (arrays_.count(name)) memcpy(arrays_[name].data(), other[name].data(), other[name].bytes.size());
    k().shift = k().batch_mean = k().batch_var = k().z_mean = k().z_var = nullptr;
  }

 private:
  using Values = std::function<double()>;

  void ratios() {
    HeadArgs& h = k();
    for (int64_t rest = c.scopes; rest; rest /= 16) h.over[h.scopes++] = Over(rest % 16 - 1);
    h.unbiased = c.unbiased, h.ratio_groups = c.ratio_groups;
    const int64_t count = c.ratio_groups * h.scopes;
    h.mean_weight = input("mean_weight", count, c.f64, gauss(1, 1));
    h.var_weight = input("var_weight", count, c.f64, gauss(1, 1));
    to.dmean_weight = gradient("dmean_weight", count), to.dvar_weight = gradient("dvar_weight", count);
  }

  void gate() {
    HeadArgs& h = k();
    const int64_t count = c.C * (c.K ? c.K : 1);
    h.gate_weight = input("gate_weight", count, c.f64, gauss(0, c.K ? 1 / std::sqrt(double(c.K)) : 1));
    to.dgate_weight = gradient("dgate_weight", count);
    if (!c.biases && c.K) return;
    h.gate_bias = input("gate_bias", c.C, c.f64, gauss(1, 0.5));
    to.dgate_bias = gradient("dgate_bias", c.C);
  }

  void window() {
    HeadArgs& h = k();
    h.window = c.source == 2 ? 2 * c.C + 1 : 2 * c.source + 3;
    h.gate_weight = input("gate_weight", h.window, c.f64, gauss(0, 1));
    to.dgate_weight = gradient("dgate_weight", h.window);
  }

  void style() {
    HeadArgs& h = k();
    h.source_eps = 1e-3;
    h.gate_weight = input("gate_weight", 2 * c.C, c.f64, gauss(0, 1));
    to.dgate_weight = gradient("dgate_weight", 2 * c.C);
    norm(c.C);
  }

  void layer() {
    HeadArgs& h = k();
    h.fc_weight = input("fc_weight", c.K * c.width(), c.f64, gauss(0, 1 / std::sqrt(double(c.width()))));
    to.dfc_weight = gradient("dfc_weight", c.K * c.width());
    if (c.biases) h.fc_bias = input("fc_bias", c.K, c.f64, gauss(0, 0.5)), to.dfc_bias = gradient("dfc_bias", c.K);
    h.source_eps = 1e-3;
    h.z = output("z", c.N * c.K, true);
    h.attention_norm = c.norm != Norm::none;
    if (h.attention_norm) norm(c.K);
  }

  void norm(int64_t count) {
    HeadArgs& h = k();
    h.norm_eps = 1e-5;
    h.norm_weight = input("norm_weight", count, c.f64, gauss(1, 0.3));
    h.norm_bias = input("norm_bias", count, c.f64, gauss(0, 0.3));
    to.dnorm_weight = gradient("dnorm_weight", count), to.dnorm_bias = gradient("dnorm_bias", count);
    if (c.norm == Norm::running) {
      h.norm_mean = input("norm_mean", count, c.f64, gauss(0, 0.5));
      h.norm_var = input("norm_var", count, c.f64, positive());
    } else {
      h.z_mean = output("z_mean", count, c.f64), h.z_var = output("z_var", count, c.f64);
    }
  }

  Values gauss(double mean, double deviation) {
    return [=, this] { return mean + deviation * double(float(normal_(random_))); };
  }
  Values positive() {
    return [this] { return 0.2 + std::fabs(double(float(normal_(random_)))); };
  }

  void* input(const char* name, int64_t count, bool f64, const Values& value) {
    Array& a = arrays_[name] = {f64, std::vector<unsigned char>(size_t(count) * (f64 ? 8 : 4))};
    for (int64_t i = 0; i < count; ++i) a.set(i, value());
    return a.data();
  }
  void* output(const char* name, int64_t count, bool f64) {
    forward_outputs.push_back(name);
    return input(name, count, f64, [this] { return start_; });
  }
  void* gradient(const char* name, int64_t count) {
    backward_outputs.push_back(name);
    return input(name, count, c.f64, [this] { return start_; });
  }

  const double start_;
  std::mt19937 random_{7};
  std::normal_distribution<double> normal_;
  std::map<std::string, Array> arrays_;
};

}  // namespace fusednorm
