#include "replay.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/Version.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/csrc/autograd/python_variable.h>

#include <cmath>

#include "function.h"

#if defined(__x86_64__)
#define FUSEDNORM_FMA [[gnu::target("avx2,fma")]]
constexpr bool kAsksForFma = true;  // of the processor: the rest of this file is for any
#else
#define FUSEDNORM_FMA
constexpr bool kAsksForFma = false;
#endif

namespace fusednorm {

namespace {

constexpr size_t kCalls = 8;       // kept a module, the oldest given up first
constexpr int kRecordings = 1000;  // a module whose calls are all different gains nothing

std::string& forced() {
  static std::string backend;
  return backend;
}

// Modes and transforms see operators, or take tensors apart: theirs is the Python way.
bool watched() {
  using c10::DispatchKey;
  static const c10::DispatchKeySet watchers{DispatchKey::Python,
                                            DispatchKey::PythonTLSSnapshot,
                                            DispatchKey::FuncTorchDynamicLayerFrontMode,
                                            DispatchKey::FuncTorchDynamicLayerBackMode,
                                            DispatchKey::Functionalize,
                                            DispatchKey::Tracer};
  return c10::impl::tls_local_dispatch_key_set().included_.has_any(watchers) ||
         at::impl::torch_function_mode_enabled() || c10::impl::TorchDispatchModeTLS::any_modes_set() ||
         torch::autograd::ForwardADLevel::try_get_by_idx(0) != nullptr;
}

// Whether t is just memory, with no operation put off.
bool ordinary(const Tensor& t) {
  using c10::DispatchKey;
  static const c10::DispatchKeySet others{DispatchKey::Python, DispatchKey::Conjugate, DispatchKey::Negative,
                                          DispatchKey::ZeroTensor, DispatchKey::Functionalize};
  return t.defined() && t.layout() == c10::kStrided && !t.key_set().has_any(others);
}

// The tensor behind a Python object; null if it is none, or of a class of its own.
const Tensor* tensor_of(py::handle object) {
  return THPVariable_CheckExact(object.ptr()) ? &THPVariable_Unpack(object.ptr()) : nullptr;
}

// torch's lerp_ to the last bit, so that it does not matter which calls were replayed: base + step*(now - old) rounded
// once where its kernels have a fused multiply-add, twice where they don't.
template <class To, class From>
FUSEDNORM_FMA void move_fused(To* p, const From* q, int64_t count, To step, bool from_old) {
  for (int64_t i = 0; i < count; ++i) p[i] = std::fma(step, To(q[i]) - p[i], from_old ? p[i] : To(q[i]));
}

template <class To, class From>
void move_plainly(To* p, const From* q, int64_t count, To step, bool from_old) {
  for (int64_t i = 0; i < count; ++i) p[i] = step * (To(q[i]) - p[i]) + (from_old ? p[i] : To(q[i]));
}

template <class To, class From>
void move_values(const Tensor& old, const Tensor& now, double weight) {
  To* p = static_cast<To*>(old.data_ptr());
  const From* q = static_cast<const From*>(now.data_ptr());
  const bool from_old = std::abs(To(weight)) < To(0.5);
  const To step = from_old ? To(weight) : To(weight) - To(1);
  static const bool fused = !kAsksForFma || at::get_cpu_capability().starts_with("AVX");
  (fused ? move_fused<To, From> : move_plainly<To, From>)(p, q, old.numel(), step, from_old);
}

// As old.lerp_(now, weight), past the dispatcher where both are in main memory.
void average(Tensor& old, const Tensor& now, double weight) {
  const auto to = old.scalar_type(), from = now.scalar_type();
  const bool here = old.is_cpu() && old.is_contiguous() && old.numel() == now.numel();
  if (here && to == at::kFloat && from == at::kFloat)
    move_values<float, float>(old, now, weight);
  else if (here && to == at::kDouble && from == at::kDouble)
    move_values<double, double>(old, now, weight);
  else if (here && to == at::kFloat && from == at::kDouble)
    move_values<float, double>(old, now, weight);
  else if (here && to == at::kDouble && from == at::kFloat)
    move_values<double, float>(old, now, weight);
  else
    return void(old.lerp_(now.to(to), weight));
  old.unsafeGetTensorImpl()->bump_version();
}

void count_one(Tensor& counter) {
  if (!counter.is_cpu() || counter.scalar_type() != at::kLong || counter.numel() != 1) return void(counter.add_(1));
  ++*static_cast<int64_t*>(counter.data_ptr());
  counter.unsafeGetTensorImpl()->bump_version();
}

}  // namespace

void force(std::string backend) { forced() = std::move(backend); }

Recorded::Recorded(py::handle module, const LayerKind& kind, const Tensor& x, const Own& own,
                   const std::vector<std::tuple<int64_t, Tensor, double>>& averages,
                   const std::vector<Tensor>& counters)
    : snapshot_(module),
      kind_(kind),
      forced_(forced()),
      type_(x.scalar_type()),
      device_(x.device()),
      dimensions_(x.dim()),
      channels_(x.size(1)),
      one_sample_(x.size(0) == 1),
      one_position_(x.numel() == x.size(0) * x.size(1)) {
  for (const Optional& t : own) own_.push_back(t ? int64_t(snapshot_.place(*t)) : -1);
  for (const auto& [statistic, t, momentum] : averages) averages_.push_back({statistic, snapshot_.place(t), momentum});
  for (const Tensor& t : counters) counters_.push_back(snapshot_.place(t));
}

bool Recorded::fits(const Tensor& x, const Optional& residual) const {
  if (x.scalar_type() != type_ || x.device() != device_ || x.dim() != dimensions_ || x.size(1) != channels_ ||
      x.numel() == 0 || (x.size(0) == 1 && !one_sample_) || (x.numel() == x.size(0) * channels_ && !one_position_))
    return false;
  return !residual || (ordinary(*residual) && residual->sizes() == x.sizes() && residual->scalar_type() == type_ &&
                       residual->device() == device_);
}

Tensor Recorded::run(py::handle module, const Tensor& x, const Optional& residual) const {
  std::vector<Tensor> tensors;
  if (forced_ != forced() || !fits(x, residual) || !snapshot_.read(module, tensors)) return {};
  py::gil_scoped_release released;
  Own own(own_.size());
  for (size_t i = 0; i < own.size(); ++i)
    if (own_[i] >= 0) own[i] = tensors[size_t(own_[i])];
  const Forward found = call(kind_, x, residual, own);
  const Tensor* statistics[] = {&std::get<7>(found), &std::get<8>(found), &std::get<9>(found), &std::get<10>(found)};
  for (const Average& a : averages_) average(tensors[a.place], *statistics[a.statistic], a.momentum);
  for (const size_t place : counters_) count_one(tensors[place]);
  return std::get<0>(found);
}

py::object Replay::operator()(py::handle module, py::handle x, py::handle residual) const {
  const Tensor* map = tensor_of(x);
  const Tensor* skip = residual.is_none() ? nullptr : tensor_of(residual);
  if (!map || (!skip && !residual.is_none()) || !ordinary(*map) || watched()) return py::none();
  for (const auto& recorded : calls_) {
    const auto held = recorded;  // another thread may give it up meanwhile
    const Tensor y = held->run(module, *map, skip ? Optional(*skip) : std::nullopt);
    if (y.defined()) return py::reinterpret_steal<py::object>(THPVariable_Wrap(y));
  }
  return recorded_ < kRecordings ? py::object(py::bool_(false)) : py::object(py::none());
}

void Replay::add(std::shared_ptr<const Recorded> call) {
  ++recorded_;
  if (calls_.size() == kCalls) calls_.erase(calls_.begin());
  calls_.push_back(std::move(call));
}

}  // namespace fusednorm
