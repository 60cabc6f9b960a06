// Statistics and affine maps of columns.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "bindings/elementwise.hpp"
#include "kernels/column_affine.hpp"
#include "kernels/column_stats.hpp"

namespace dlcore {

namespace {

py::array matrix(py::handle object, const argument& arg, kind& k) {
  py::array x = float_array(object, arg, k);
  if (x.ndim() != 2)
    throw py::value_error(arg.text() + " must have two dimensions (rows, columns), got the shape " +
                          shape_text(x));
  return x;
}

// Whether the squares of a column have lost nothing: they neither overflow nor, beside their sum,
// underflow. Infinite and empty columns have none that count.
bool keeps_squares(const column_sums& s, std::ptrdiff_t c, double variance) {
  return s.count[c] == 0 || (variance >= 0x1p-960 && variance <= 0x1p+960) ||
         (variance == 0 && s.least[c] == s.largest[c]);
}

// count, mean, variance, least, largest, and what the mean lost in rounding: one a column; and
// whether all columns keep their squares.
py::tuple column_stats(const char* function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {function, "x"}, k);
  const view v = view_of(x);
  return dispatch(k, [&](auto type) {
    column_sums s(0);
    {
      without_gil released;
      s = column_statistics<decltype(type)>(v, parallel_for);
    }
    const std::ptrdiff_t n = s.columns;
    py::array_t<std::int64_t> count(n);
    py::array_t<double> mean(n), variance(n), least(n), largest(n), low(n);
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    bool plain = true;
    for (std::ptrdiff_t c = 0; c < n; ++c) {
      const bool empty = s.count[c] == 0;
      const double m = s.shift[c] + s.offset[c], rest = (s.shift[c] - m) + s.offset[c];
      count.mutable_data()[c] = std::int64_t(s.count[c]);
      mean.mutable_data()[c] = empty ? nan : m;
      const double v = s.squares[c] / s.count[c];
      variance.mutable_data()[c] = empty ? nan : v;
      plain = plain && keeps_squares(s, c, v);
      least.mutable_data()[c] = empty ? nan : s.least[c];
      largest.mutable_data()[c] = empty ? nan : s.largest[c];
      low.mutable_data()[c] = std::isfinite(rest) ? rest : 0.0;
    }
    return py::make_tuple(count, mean, variance, least, largest, low, plain);
  });
}

// `map`: what to subtract, to multiply by and to add, one row of a contiguous float64 array each.
// `finite`: None where x has infinities, and what was written is of no use.
py::object affine(const char* function, py::handle x_object, const py::array& map, double low,
                  double high, py::handle out_object, bool finite) {
  kind k;
  const argument arg{function, "x"};
  const py::array x = matrix(x_object, arg, k);
  // Looked at here, since pybind11's array_t would take a tenth of a small call.
  if (descr(map)->type_num != py::detail::npy_api::NPY_DOUBLE_ || map.ndim() != 2 ||
      map.shape(0) != 3 || !has_flag(map, c_contiguous))
    throw py::type_error(std::string(function) + ": map must be contiguous float64 of three rows");
  const std::ptrdiff_t columns = map.shape(1);
  if (x.shape(1) != columns)
    throw py::value_error(arg.text() + " must have " + std::to_string(columns) +
                          " columns, as many as fit has seen, got the shape " + shape_text(x));
  const py::array out = output(out_object, function, x, "x", {{"x", &x}}, column_major(x));
  const auto* values = static_cast<const double*>(map.data());
  const column_map of_columns{values, values + columns, values + 2 * columns, low, high};
  const std::array<view, 2> views{view_of(x), view_of(out)};
  bool infinite = false;
  dispatch(k, [&](auto type) {
    without_gil released;
    infinite = affine_columns<decltype(type)>(of_columns, views, parallel_for);
  });
  if (infinite && finite) return py::none();
  return returned(out_object, out);
}

}  // namespace

void bind_columns(py::module_& m) {
  using py::arg;
  m.def("column_stats", column_stats, arg("function"), arg("x"));
  m.def("affine_columns", affine, arg("function"), arg("x"), arg("map"), arg("low"), arg("high"),
        arg("out"), arg("finite") = false);
}

}  // namespace dlcore
