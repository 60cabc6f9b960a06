// What losses share: how they are reduced, and what they return.
#pragma once

#include <string>
#include <utility>

#include "bindings/arrays.hpp"
#include "kernels/losses.hpp"

namespace dlcore {

inline reduction reduction_of(py::handle name, const char* function) {
  if (is_text(name, "none")) return reduction::none;
  if (is_text(name, "mean")) return reduction::mean;
  if (is_text(name, "sum")) return reduction::sum;
  throw py::value_error(std::string(function) +
                        ": reduction must be 'none', 'mean' or 'sum', got " +
                        std::string(py::repr(name)));
}

// A NumPy scalar of the input's dtype. By NumPy's C interface, since a call of numpy.float32 takes
// as long as the loss of some hundred elements.
inline py::object scalar_like(const py::array& a, double value) {
  float single = float(value);
  const bool is_double = descr(a)->type_num == py::detail::npy_api::NPY_DOUBLE_;
  void* data = is_double ? static_cast<void*>(&value) : static_cast<void*>(&single);
  PyObject* descr = py::detail::array_proxy(a.ptr())->descr;
  PyObject* scalar = py::detail::npy_api::get().PyArray_Scalar_(data, descr, nullptr);
  if (!scalar) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(scalar);
}

// (loss, grad) with a gradient, else the loss.
inline py::object loss_result(py::object loss, bool with_grad, py::handle out_object,
                              const py::array& grad) {
  if (!with_grad) return loss;
  return py::make_tuple(std::move(loss), returned(out_object, grad));
}

inline py::handle unless_none(py::handle object) {
  return object.is_none() ? py::handle() : object;
}

}  // namespace dlcore
