#include "kernels/softmax.hpp"

#include <limits>

#include "bindings/fast_call.hpp"
#include "bindings/rows.hpp"

namespace dlcore {

namespace {

// The rows of an array along an axis. Where each lies in a lane, their largest elements are counted
// there.
row_shape counted_rows(const char* function, const py::array& x, int axis, kind k) {
  const row_shape shape = row_shape_of(x, axis);
  if (k == kind::float32 && !shape.one_by_one() && shape.classes > 0x7fffffff)
    throw py::value_error(std::string(function) +
                          ": x has more than 2^31 - 1 elements along an axis that is not the last");
  return shape;
}

// `kernel(type, shape, views)`: forward or backward, of the type that its first argument has.
template <class Kernel>
py::object forward(const char* function, py::handle x_object, std::ptrdiff_t axis,
                   py::handle out_object, const Kernel& kernel) {
  kind k;
  const py::array x = float_array(x_object, {function, "x"}, k);
  const int at = class_axis(x, axis, {function, "axis"});
  const py::array out = output(out_object, function, x, "x", {{"x", &x}});
  const std::array<row_view, 2> views{row_view_of(x, at), row_view_of(out, at)};
  const row_shape shape = counted_rows(function, x, at, k);
  dispatch(k, [&](auto t) {
    without_gil released;
    kernel(t, shape, views);
  });
  return returned(out_object, out);
}

template <class Kernel>
py::object backward(const char* function, py::handle dy_object, py::handle y_object,
                    std::ptrdiff_t axis, py::handle out_object, const Kernel& kernel) {
  kind k;
  const py::array y = float_array(y_object, {function, "y"}, k);
  const argument dy_arg{function, "dy"};
  const py::array dy = float_array_like(dy_object, dy_arg, y, "y");
  require_shape_of(dy, dy_arg, y, "y");
  const int at = class_axis(y, axis, {function, "axis"});
  const py::array out = output(out_object, function, y, "y", {{"dy", &dy}, {"y", &y}});
  const std::array<row_view, 3> views{row_view_of(dy, at), row_view_of(y, at),
                                      row_view_of(out, at)};
  const row_shape shape = row_shape_of(y, at);
  dispatch(k, [&](auto t) {
    without_gil released;
    kernel(t, shape, views);
  });
  return returned(out_object, out);
}

py::object log_of_sum(py::handle x_object, std::ptrdiff_t axis) {
  const char* function = "logsumexp";
  kind k;
  const py::array x = float_array(x_object, {function, "x"}, k);
  const int at = class_axis(x, axis, {function, "axis"});
  const row_shape shape = counted_rows(function, x, at, k);
  const py::array y(x.dtype(), shape_of_rows(x, at));
  std::array<view, 1> rows{view_of(y)};
  collapse(rows);
  const row_view of_x = row_view_of(x, at);
  if (shape.classes == 0)  // the logarithm of an empty sum
    y.attr("fill")(-std::numeric_limits<double>::infinity());
  dispatch(k, [&](auto t) {
    without_gil released;
    logsumexp<decltype(t)>(shape, of_x, rows[0], parallel_for);
  });
  return y;
}

}  // namespace

void bind_softmax(py::module_& m) {
  define_fast(m, "softmax", [](py::handle x, std::ptrdiff_t axis, py::handle out) {
    return forward("softmax", x, axis, out, [](auto t, const auto& shape, const auto& views) {
      softmax<decltype(t)>(shape, views, parallel_for);
    });
  });
  define_fast(m, "softmax_backward",
              [](py::handle dy, py::handle y, std::ptrdiff_t axis, py::handle out) {
                return backward("softmax_backward", dy, y, axis, out,
                                [](auto t, const auto& shape, const auto& views) {
                                  softmax_backward<decltype(t)>(shape, views, parallel_for);
                                });
              });
  define_fast(m, "log_softmax", [](py::handle x, std::ptrdiff_t axis, py::handle out) {
    return forward("log_softmax", x, axis, out, [](auto t, const auto& shape, const auto& views) {
      log_softmax<decltype(t)>(shape, views, parallel_for);
    });
  });
  define_fast(m, "logsumexp", log_of_sum);
  define_fast(m, "log_softmax_backward",
              [](py::handle dy, py::handle y, std::ptrdiff_t axis, py::handle out) {
                return backward("log_softmax_backward", dy, y, axis, out,
                                [](auto t, const auto& shape, const auto& views) {
                                  log_softmax_backward<decltype(t)>(shape, views, parallel_for);
                                });
              });
}

}  // namespace dlcore
