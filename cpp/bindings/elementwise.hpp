// Kernels that treat each element by itself, over arrays.
#pragma once

#include <array>
#include <cstddef>

#include "bindings/arrays.hpp"
#include "kernels/elementwise.hpp"

namespace dlcore {

// Views of arrays of one shape, for kernels that treat each element by itself: as one run where all
// are contiguous in the same order.
template <std::size_t K>
inline std::array<view, K> elementwise_views(const std::array<const py::array*, K>& arrays) {
  bool c = true, f = true;
  for (const py::array* a : arrays) {
    c = c && has_flag(*a, c_contiguous);
    f = f && has_flag(*a, f_contiguous);
  }
  std::array<view, K> views;
  for (std::size_t k = 0; k < K; ++k)
    views[k] = c || f ? flat_view_of(*arrays[k]) : view_of(*arrays[k]);
  return views;
}

// Whether a new output should be column-major, to be in the order of its inputs.
inline bool column_major(const py::array& a) {
  return has_flag(a, f_contiguous) && !has_flag(a, c_contiguous);
}

// A kernel for runs of either dtype.
struct any_run : run_ref<float>, run_ref<double> {
  template <class F>
  any_run(const F& f) : run_ref<float>(f), run_ref<double>(f) {}
};

inline py::object map_unary(const char* function, py::handle x_object, py::handle out_object,
                            double cost, const any_run& f) {
  kind k;
  const py::array x = float_array(x_object, {function, "x"}, k);
  const py::array out = output(out_object, function, x, "x", {{"x", &x}}, column_major(x));
  auto views = elementwise_views<2>({&x, &out});
  dispatch(k, [&](auto t) {
    using T = decltype(t);
    without_gil released;
    map_arrays<T>(f, views, cost);
  });
  return returned(out_object, out);
}

}  // namespace dlcore
