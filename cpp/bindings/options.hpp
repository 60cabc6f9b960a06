// Options of kernels from Python's numbers.
#pragma once

#include <string>

#include "bindings/arrays.hpp"
#include "kernels/options.hpp"

namespace dlcore {

// Whatever has a float value, within the range of the option.
inline double option_of(py::handle value, const kernel_option& option, const char* function) {
  const argument arg{function, option.name};
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error(arg.text() + " must be a number, got " +
                         std::string(py::str(py::type::handle_of(value).attr("__name__"))));
  }
  if (!option.accepts(number))
    throw py::value_error(arg.text() + " must be " + option.wanted() + ", got " +
                          std::string(py::str(value)));
  return number;
}

}  // namespace dlcore
