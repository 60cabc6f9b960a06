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

// A NumPy scalar of the input's dtype.
inline py::object scalar_like(const py::array& a, double value) {
  using types = std::array<py::object, 2>;
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<types> storage;
  const types& scalar = storage
                            .call_once_and_store_result([] {
                              const auto numpy = py::module_::import("numpy");
                              return types{numpy.attr("float32"), numpy.attr("float64")};
                            })
                            .get_stored();
  return scalar[descr(a)->type_num == py::detail::npy_api::NPY_DOUBLE_](value);
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
