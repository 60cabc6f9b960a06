// Named tuples of python/dlcore/_native/specs.py, read field by field, by name.
//
// A description of another class, a field that is missing or unknown, and an array that is not as
// it must be raise. Arrays are not copied: whoever keeps the description keeps them.
#pragma once

#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "network/rows.hpp"

namespace dlcore {

inline bool is_spec(py::handle object, const char* type) {
  return std::strcmp(Py_TYPE(object.ptr())->tp_name, type) == 0;
}

// Whether the elements are T in native byte order.
template <class T>
inline bool is_array_of(const py::array& a) {
  return descr(a)->kind == (std::is_floating_point_v<T> ? 'f' : 'i') &&
         a.itemsize() == py::ssize_t(sizeof(T)) && native_order(a);
}

// The names of the fields of a class of descriptions, which is kept: looked up as attributes they
// took two thirds of the time to read an epoch.
inline const std::vector<std::string>& field_names(PyTypeObject* type) {
  static std::unordered_map<PyTypeObject*, std::vector<std::string>> known;
  static std::mutex mutex;
  {
    const std::lock_guard<std::mutex> locked(mutex);
    const auto at = known.find(type);
    if (at != known.end()) return at->second;
  }
  // Unlocked: Python may run another thread meanwhile, which would wait with the GIL in its hands.
  std::vector<std::string> names;
  for (const py::handle name : py::handle(reinterpret_cast<PyObject*>(type)).attr("_fields"))
    names.push_back(py::cast<std::string>(name));
  const std::lock_guard<std::mutex> locked(mutex);
  const auto [at, is_new] = known.emplace(type, std::move(names));
  if (is_new) Py_INCREF(type);
  return at->second;
}

// The fields of a description.
class fields {
 public:
  fields(py::handle of, const char* type) : of_(of), type_(type) {
    if (!is_spec(of, type) || !PyTuple_Check(of.ptr()))
      throw py::type_error(std::string("expected ") + type + ", got " + Py_TYPE(of.ptr())->tp_name);
    names_ = &field_names(Py_TYPE(of.ptr()));
  }
  fields(const fields&) = delete;

  // Raises for a field that nobody has read.
  void end() const {
    if (PyTuple_GET_SIZE(of_.ptr()) != read_)
      throw py::type_error(std::string(type_) + " has fields that the native code does not know: " +
                           std::string(py::str(of_.attr("_fields"))));
  }

  // They are asked for in their order, mostly.
  py::object object(const char* name) {
    const std::size_t count = names_->size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t place = (std::size_t(read_) + i) % count;
      if ((*names_)[place] != name) continue;
      ++read_;
      return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(of_.ptr(), Py_ssize_t(place)));
    }
    throw py::attribute_error(std::string(type_) + " has no field " + name);
  }
  double number(const char* name) { return as_number(object(name), name); }
  std::optional<double> optional_number(const char* name) {
    const py::object value = object(name);
    if (value.is_none()) return std::nullopt;
    return as_number(value, name);
  }
  std::int64_t integer(const char* name) {
    const py::object value = object(name);
    const long long x = PyLong_AsLongLong(value.ptr());
    if (x == -1 && PyErr_Occurred()) wrong(name, "an integer", value);
    return x;
  }
  std::uint64_t key(const char* name) {
    const py::object value = object(name);
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!index) wrong(name, "an integer", value);
    const unsigned long long x = PyLong_AsUnsignedLongLong(index.ptr());
    if (PyErr_Occurred()) wrong(name, "an integer of 64 bits", value);
    return x;
  }
  bool flag(const char* name) {
    const py::object value = object(name);
    const int x = PyObject_IsTrue(value.ptr());
    if (x < 0) wrong(name, "a bool", value);
    return x != 0;
  }
  std::string text(const char* name) {
    const py::object value = object(name);
    if (!PyUnicode_Check(value.ptr())) wrong(name, "a string", value);
    return py::cast<std::string>(value);
  }
  py::tuple tuple(const char* name) {
    const py::object value = object(name);
    if (!PyTuple_Check(value.ptr())) wrong(name, "a tuple", value);
    return py::reinterpret_borrow<py::tuple>(value);
  }

  // `size` elements of T without gaps, or null where None is given. -1: any number of them.
  template <class T>
  T* array(const char* name, std::ptrdiff_t size, bool writes = false) {
    const py::object value = object(name);
    return value.is_none() ? nullptr : data<T>(value, name, size, writes);
  }
  // The same, of a field that must be there.
  template <class T>
  T* required(const char* name, std::ptrdiff_t size, bool writes = false) {
    return data<T>(object(name), name, size, writes);
  }
  // The elements of a field, and how many there are: none where None is given.
  template <class T>
  std::pair<T*, std::ptrdiff_t> elements(const char* name) {
    const py::object value = object(name);
    if (value.is_none()) return {nullptr, 0};
    T* const first = data<T>(value, name, -1, false);
    return {first, py::reinterpret_borrow<py::array>(value).size()};
  }
  // A parameter and, from the field "<name>_grad", its gradient. `trains`: one with a gradient is
  // written.
  template <class T>
  tensor<T> parameter(const char* name, const char* grad_name, std::ptrdiff_t size, bool trains) {
    T* const gradient = array<T>(grad_name, size, true);
    T* const value = array<T>(name, size, trains && gradient);
    return {value, gradient, value ? size : 0};
  }
  // Those of a tuple of parameters and one of their gradients, or None for each that has none.
  template <class T>
  std::vector<tensor<T>> parameters(const char* name, const char* grads_name) {
    const py::tuple values = tuple(name), grads = tuple(grads_name);
    if (values.size() != grads.size()) wrong(grads_name, "one for each parameter", grads);
    std::vector<tensor<T>> all;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const py::object value = values[i], grad = grads[i];
      T* const gradient = grad.is_none() ? nullptr : data<T>(grad, grads_name, -1, true);
      T* const first = data<T>(value, name, -1, gradient);
      all.push_back({first, gradient, py::reinterpret_borrow<py::array>(value).size()});
    }
    return all;
  }
  py::array any_array(const char* name) {
    const py::object value = object(name);
    if (!py::isinstance<py::array>(value)) wrong(name, "an array", value);
    return py::reinterpret_borrow<py::array>(value);
  }

  [[noreturn, gnu::noinline]] void wrong(const char* name, const std::string& wanted,
                                         py::handle value) const {
    PyErr_Clear();
    throw py::type_error(std::string(type_) + ": " + name + " must be " + wanted + ", got " +
                         std::string(py::repr(value)));
  }

 private:
  double as_number(const py::object& value, const char* name) const {
    const double x = PyFloat_AsDouble(value.ptr());
    if (x == -1 && PyErr_Occurred()) wrong(name, "a number", value);
    return x;
  }

  py::handle of_;
  const char* type_;
  const std::vector<std::string>* names_;
  Py_ssize_t read_ = 0;

  template <class T>
  T* data(const py::object& value, const char* name, std::ptrdiff_t size, bool writes) const {
    if (!py::isinstance<py::array>(value)) wrong(name, "an array", value);
    const auto a = py::reinterpret_borrow<py::array>(value);
    if (!is_array_of<T>(a) || !has_flag(a, c_contiguous) || (size >= 0 && a.size() != size) ||
        (writes && !a.writeable()))
      wrong_array(name, py::dtype::of<T>(), size, writes, a);
    return static_cast<T*>(const_cast<void*>(a.data()));
  }
  [[noreturn, gnu::noinline]] void wrong_array(const char* name, const py::dtype& dtype,
                                               std::ptrdiff_t size, bool writes,
                                               const py::array& a) const {
    throw py::type_error(std::string(type_) + ": " + name + " must be an array of " +
                         (size >= 0 ? std::to_string(size) + " " : "") +
                         std::string(py::str(dtype)) + " in C order" +
                         (writes ? ", not read-only" : "") + ", got " + shape_text(a) + " of " +
                         std::string(py::str(a.dtype())));
  }
};

}  // namespace dlcore
