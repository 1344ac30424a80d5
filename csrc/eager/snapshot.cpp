#include <c10/util/accumulate.h>
#include <torch/csrc/autograd/python_variable.h>

#include "replay.h"

namespace fusednorm {

namespace {

py::object interned(const char* name) {
  PyObject* s = PyUnicode_InternFromString(name);
  return py::reinterpret_steal<py::object>(s);
}

// What nn.Module keeps its tensors and submodules in. Never freed.
struct Names {
  py::object parameters = interned("_parameters"), buffers = interned("_buffers"), modules = interned("_modules");
};
const Names& names() {
  static const auto* all = new Names();
  return *all;
}

// Of immutable values, those whose equality says that nothing has changed.
bool plain(PyObject* value) {
  if (value == Py_None || PyBool_Check(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
      PyUnicode_CheckExact(value))
    return true;
  if (!PyTuple_CheckExact(value)) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i)
    if (!plain(PyTuple_GET_ITEM(value, i))) return false;
  return true;
}

bool same(PyObject* value, PyObject* recorded) {
  if (value == recorded) return true;
  if (!value || Py_TYPE(value) != Py_TYPE(recorded)) return false;
  const int equal = PyObject_RichCompareBool(value, recorded, Py_EQ);
  if (equal < 0) PyErr_Clear();
  return equal == 1;
}

// The module's __dict__, borrowed; null where it has none.
PyObject* attributes_of(PyObject* module) {
  PyObject** dict = _PyObject_GetDictPtr(module);
  if (dict && *dict) return *dict;
  PyObject* found = PyObject_GenericGetDict(module, nullptr);  // makes it where Python keeps values inline
  if (!found) return PyErr_Clear(), nullptr;
  Py_DECREF(found);
  return found;
}

PyObject* item(PyObject* dict, const py::object& key) {
  return dict && PyDict_CheckExact(dict) ? PyDict_GetItemWithError(dict, key.ptr()) : nullptr;
}

}  // namespace

Snapshot::Snapshot(py::handle module) { walk(module, 0, py::none()); }

void Snapshot::walk(py::handle module, size_t parent, py::object name) {
  PyObject* attributes = attributes_of(module.ptr());
  PyObject* parameters = item(attributes, names().parameters);
  PyObject* buffers = item(attributes, names().buffers);
  PyObject* modules = item(attributes, names().modules);
  if (!parameters || !buffers || !modules) throw py::value_error("not a module as nn.Module keeps them");
  Node node{parent,
            std::move(name),
            py::type::of(module),
            {},
            {},
            PyDict_GET_SIZE(attributes),
            PyDict_GET_SIZE(parameters),
            PyDict_GET_SIZE(buffers),
            PyDict_GET_SIZE(modules)};
  PyObject *key, *value;
  for (Py_ssize_t at = 0; PyDict_Next(attributes, &at, &key, &value);) {
    const auto text = py::cast<std::string>(py::handle(key));
    if (text.starts_with("_")) continue;  // nn.Module's own
    if (!plain(value)) throw py::value_error(text + ": may change unnoticed");
    node.options.emplace_back(py::reinterpret_borrow<py::object>(key), py::reinterpret_borrow<py::object>(value));
  }
  for (PyObject* of : {parameters, buffers})
    for (Py_ssize_t at = 0; PyDict_Next(of, &at, &key, &value);) {
      const bool buffer = of == buffers, absent = value == Py_None;
      if (!absent && !THPVariable_CheckExact(value)) throw py::value_error("a tensor of another class");
      const Tensor t = absent ? Tensor() : THPVariable_Unpack(value);
      if (!absent && !t.is_contiguous()) throw py::value_error("a tensor with gaps");
      node.slots.push_back({py::reinterpret_borrow<py::object>(key), buffer, absent,
                            absent ? c10::ScalarType::Undefined : t.scalar_type(),
                            absent ? c10::Device(c10::kCPU) : t.device(), absent ? c10::kStrided : t.layout(),
                            absent ? std::vector<int64_t>() : t.sizes().vec(), absent ? nullptr : t.data_ptr()});
    }
  const size_t number = nodes_.size();
  nodes_.push_back(std::move(node));
  for (Py_ssize_t at = 0; PyDict_Next(modules, &at, &key, &value);)
    if (value != Py_None) walk(value, number, py::reinterpret_borrow<py::object>(key));
}

bool Snapshot::read(py::handle module, std::vector<Tensor>& tensors) const {
  PyObject* all[8];  // modules, borrowed
  if (nodes_.size() > std::size(all)) return false;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    all[i] = i == 0 ? module.ptr() : item(item(attributes_of(all[node.parent]), names().modules), node.name);
    if (!all[i] || reinterpret_cast<PyObject*>(Py_TYPE(all[i])) != node.type.ptr()) return false;
    PyObject* attributes = attributes_of(all[i]);
    PyObject* parameters = item(attributes, names().parameters);
    PyObject* buffers = item(attributes, names().buffers);
    PyObject* modules = item(attributes, names().modules);
    if (!parameters || !buffers || !modules || PyDict_GET_SIZE(attributes) != node.attributes ||
        PyDict_GET_SIZE(parameters) != node.parameters || PyDict_GET_SIZE(buffers) != node.buffers ||
        PyDict_GET_SIZE(modules) != node.modules)
      return false;
    for (const auto& [name, value] : node.options)
      if (!same(item(attributes, name), value.ptr())) return false;
    for (const Slot& slot : node.slots) {
      PyObject* value = item(slot.buffer ? buffers : parameters, slot.name);
      if (!value || (value == Py_None) != slot.absent) return false;
      if (slot.absent) {
        tensors.emplace_back();
        continue;
      }
      if (!THPVariable_CheckExact(value)) return false;
      const Tensor& t = THPVariable_Unpack(value);
      if (t.scalar_type() != slot.type || t.device() != slot.device || t.layout() != slot.layout ||
          t.sizes() != at::IntArrayRef(slot.sizes) || (slot.buffer && t.requires_grad()))
        return false;
      tensors.push_back(t);
    }
  }
  return true;
}

size_t Snapshot::place(const Tensor& t) const {
  size_t number = 0, found = 0, matches = 0;
  for (const Node& node : nodes_)
    for (const Slot& slot : node.slots) {
      if (slot.data && slot.data == t.data_ptr() && c10::multiply_integers(slot.sizes) == t.numel() &&
          slot.type == t.scalar_type() && t.is_contiguous())
        found = number, ++matches;
      ++number;
    }
  if (matches != 1) throw py::value_error("a tensor that is none of the module's, or two of them");
  return found;
}

}  // namespace fusednorm
