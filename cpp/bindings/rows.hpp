// Arrays as rows of classes.
#pragma once

#include <vector>

#include "bindings/arrays.hpp"
#include "kernels/rows.hpp"

namespace dlcore {

inline int class_axis(const py::array& x, std::ptrdiff_t axis, const argument& arg) {
  const std::ptrdiff_t n = x.ndim();
  if (axis < -n || axis >= n)
    throw py::value_error(arg.text() + " " + std::to_string(axis) +
                          " is out of range for an array of " + std::to_string(n) + " dimensions");
  return int(axis < 0 ? axis + n : axis);
}

// The shape without its class axis.
inline std::vector<py::ssize_t> shape_of_rows(const py::array& x, int axis) {
  std::vector<py::ssize_t> shape(x.shape(), x.shape() + x.ndim());
  shape.erase(shape.begin() + axis);
  return shape;
}

inline row_shape row_shape_of(const py::array& x, int axis) {
  row_shape s{1, x.shape(axis), true};
  for (int d = 0; d < x.ndim(); ++d) {
    if (d != axis) s.rows *= x.shape(d);
    if (d > axis && x.shape(d) != 1) s.class_axis_last = false;
  }
  return s;
}

inline row_view row_view_of(const py::array& a, int axis) {
  const view whole = view_of(a);
  row_view v;
  v.class_stride = whole.strides[axis];
  v.rows.data = whole.data;
  for (int d = 0; d < whole.ndim; ++d) {
    if (d == axis) continue;
    v.rows.shape[v.rows.ndim] = whole.shape[d];
    v.rows.strides[v.rows.ndim++] = whole.strides[d];
  }
  std::array<view, 1> rows{v.rows};
  collapse(rows);
  v.rows = rows[0];
  return v;
}

}  // namespace dlcore
