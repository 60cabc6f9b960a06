// Statistics and affine maps of columns.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "bindings/elementwise.hpp"
#include "bindings/fast_call.hpp"
#include "kernels/column_affine.hpp"
#include "kernels/column_stats.hpp"

namespace dlcore {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

const char* text_of(py::handle object) {
  const char* text = PyUnicode_AsUTF8(object.ptr());
  if (!text) throw py::error_already_set();
  return text;
}

py::array matrix(py::handle object, const argument& arg, kind& k) {
  py::array x = float_array(object, arg, k);
  if (x.ndim() != 2)
    throw py::value_error(arg.text() + " must have two dimensions (rows, columns), got the shape " +
                          shape_text(x));
  return x;
}

// One element a column: pybind11's constructors would take half of a small call.
template <class T>
struct column_array {
  py::array array;
  T* values;

  explicit column_array(std::ptrdiff_t columns) {
    const auto& api = py::detail::npy_api::get();
    const Py_intptr_t shape = columns;
    PyObject* dtype = py::dtype::of<T>().release().ptr();  // the new array takes the reference
    PyObject* a = api.PyArray_NewFromDescr_(api.PyArray_Type_, dtype, 1, &shape, nullptr, nullptr,
                                            0, nullptr);
    if (!a) throw py::error_already_set();
    array = py::reinterpret_steal<py::array>(a);
    values = static_cast<T*>(array.mutable_data());
  }
};

// Whether the squares of a column have lost nothing: they neither overflow nor, beside their sum,
// underflow. Infinite and empty columns have none that count.
bool keeps_squares(const column_sums& s, std::ptrdiff_t c, double variance) {
  return s.count[c] == 0 || (variance >= 0x1p-960 && variance <= 0x1p+960) ||
         (variance == 0 && s.least[c] == s.largest[c]);
}

// count, mean, variance, least, largest, and what the mean lost in rounding: one a column; and
// whether there are rows and all columns keep their squares.
py::object column_stats(py::handle function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {text_of(function), "x"}, k);
  const view v = view_of(x);
  const column_sums s = dispatch(k, [&](auto type) {
    without_gil released;
    return column_statistics<decltype(type)>(v, parallel_for);
  });
  const std::ptrdiff_t n = s.columns;
  const column_array<std::int64_t> count(n);
  const column_array<double> mean(n), variance(n), least(n), largest(n), low(n);
  bool plain = x.shape(0) > 0;
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    const bool empty = s.count[c] == 0;
    const double m = s.shift[c] + s.offset[c], rest = (s.shift[c] - m) + s.offset[c];
    const double var = s.squares[c] / s.count[c];
    count.values[c] = std::int64_t(s.count[c]);
    mean.values[c] = empty ? nan : m;
    variance.values[c] = empty ? nan : var;
    plain = plain && keeps_squares(s, c, var);
    least.values[c] = empty ? nan : s.least[c];
    largest.values[c] = empty ? nan : s.largest[c];
    low.values[c] = std::isfinite(rest) ? rest : 0.0;
  }
  return py::make_tuple(count.array, mean.array, variance.array, least.array, largest.array,
                        low.array, plain);
}

// least and largest, one a column, NaN where there is no number; and whether there are rows and
// all that is a number is finite.
py::object column_extremes_of(py::handle function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {text_of(function), "x"}, k);
  const view v = view_of(x);
  const column_extremes found = dispatch(k, [&](auto type) {
    without_gil released;
    return extremes_of_columns<decltype(type)>(v, parallel_for);
  });
  const std::ptrdiff_t n = found.columns;
  const column_array<double> least(n), largest(n);
  bool finite = x.shape(0) > 0;
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    const bool empty = found.least[c] > found.largest[c];
    finite =
        finite && (empty || (std::isfinite(found.least[c]) && std::isfinite(found.largest[c])));
    least.values[c] = empty ? nan : found.least[c];
    largest.values[c] = empty ? nan : found.largest[c];
  }
  return py::make_tuple(least.array, largest.array, finite);
}

// `map`: what to subtract, to multiply by and to add, one row of a contiguous float64 array each.
// `finite`: None where x has infinities, and what was written is of no use.
py::object affine(py::handle function_object, py::handle x_object, py::handle map_object,
                  double low, double high, py::handle out_object, bool finite) {
  kind k;
  const char* function = text_of(function_object);
  const argument arg{function, "x"};
  const py::array x = matrix(x_object, arg, k);
  const py::array map = as_array(map_object, {function, "map"});
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
    infinite = affine_columns<decltype(type)>(of_columns, finite, views, parallel_for);
  });
  if (infinite) return py::none();
  return returned(out_object, out);
}

}  // namespace

void bind_columns(py::module_& m) {
  define_fast(m, "column_stats", column_stats);
  define_fast(m, "column_extremes", column_extremes_of);
  define_fast(m, "affine_columns", affine);
}

}  // namespace dlcore
