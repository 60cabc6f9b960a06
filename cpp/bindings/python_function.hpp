// A function in Python that threads without the GIL call.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "bindings/arrays.hpp"
#include "network/rows.hpp"
#include "simd/vec.hpp"

namespace dlcore {

class python_function {
 public:
  explicit python_function(py::object f) : f_(std::move(f)) {}
  python_function(const python_function&) = delete;
  ~python_function() {
    const holding_gil held;
    f_ = py::object();
  }
  static std::shared_ptr<const python_function> made(py::object f) {
    return std::make_shared<const python_function>(std::move(f));
  }

  // Calls run(f) with the GIL. NumPy computes with subnormal numbers there, whatever the caller
  // does.
  template <class F>
  void call(const F& run) const {
    const holding_gil held;
    const keep_subnormals kept;
    run(f_);
  }

 private:
  // Of any thread, one of OpenMP's as well.
  class holding_gil {
   public:
    holding_gil() : state_(in_python([] { return PyGILState_Ensure(); })) {}
    holding_gil(const holding_gil&) = delete;
    ~holding_gil() { PyGILState_Release(state_); }

   private:
    PyGILState_STATE state_;
  };

  py::object f_;
};

// A copy that is the callee's own.
template <class T>
inline py::array_t<T> array_of_rows(rows_of<const T> from, std::ptrdiff_t rows,
                                    std::ptrdiff_t width) {
  py::array_t<T> made({rows, width});
  copy_rows<T>(from, {made.mutable_data(), width}, rows, width);
  return made;
}

}  // namespace dlcore
