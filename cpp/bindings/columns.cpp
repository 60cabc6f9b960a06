// Statistics and affine maps of columns.
#include <cmath>
#include <limits>
#include <optional>
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

// A new array of float64, of so many rows or of one dimension: pybind11's constructors would take
// half of a small call.
py::array new_array(std::ptrdiff_t columns, std::ptrdiff_t rows = 0) {
  const auto& api = py::detail::npy_api::get();
  const Py_intptr_t shape[] = {rows, columns};
  PyObject* dtype = py::dtype::of<double>().release().ptr();  // the new array takes the reference
  PyObject* a = api.PyArray_NewFromDescr_(api.PyArray_Type_, dtype, rows ? 2 : 1,
                                          rows ? shape : shape + 1, nullptr, nullptr, 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}
double* values_of(py::array& a) { return static_cast<double*>(a.mutable_data()); }

// Lets go of the GIL where the work takes longer than that, a tenth of a microsecond.
struct without_gil_if_long {
  std::optional<without_gil> released;

  explicit without_gil_if_long(std::ptrdiff_t elements) {
    if (elements > 8192) released.emplace();
  }
};

// Whether the squares of a column have lost nothing: they neither overflow nor, beside their sum,
// underflow. Infinite and empty columns have none that count.
bool keeps_squares(const column_sums& s, std::ptrdiff_t c, double variance) {
  return s.count[c] == 0 || (variance >= 0x1p-960 && variance <= 0x1p+960) ||
         (variance == 0 && s.least[c] == s.largest[c]);
}

// mean; variance; rows of count, least, largest, and what the mean lost in rounding; and whether
// there are rows and all columns keep their squares. Few arrays, since each takes a fifth of a
// small call.
py::object column_stats(py::handle function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {text_of(function), "x"}, k);
  const view v = view_of(x);
  const column_sums s = dispatch(k, [&](auto type) {
    const without_gil_if_long released(v.size());
    return column_statistics<decltype(type)>(v, parallel_for);
  });
  const std::ptrdiff_t n = s.columns;
  py::array mean = new_array(n), variance = new_array(n), rest = new_array(n, 4);
  double *means = values_of(mean), *variances = values_of(variance), *counts = values_of(rest);
  double *least = counts + n, *largest = least + n, *low = largest + n;
  bool plain = x.shape(0) > 0;
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    const bool empty = s.count[c] == 0;
    const double m = s.shift[c] + s.offset[c], lost = (s.shift[c] - m) + s.offset[c];
    const double var = s.squares[c] / s.count[c];
    counts[c] = s.count[c];
    means[c] = empty ? nan : m;
    variances[c] = empty ? nan : var;
    plain = plain && keeps_squares(s, c, var);
    least[c] = empty ? nan : s.least[c];
    largest[c] = empty ? nan : s.largest[c];
    low[c] = std::isfinite(lost) ? lost : 0.0;
  }
  return py::make_tuple(mean, variance, rest, plain);
}

// least and largest, one a column, NaN where there is no number; and whether there are rows and
// all that is a number is finite.
py::object column_extremes_of(py::handle function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {text_of(function), "x"}, k);
  const view v = view_of(x);
  const column_extremes found = dispatch(k, [&](auto type) {
    const without_gil_if_long released(v.size());
    return extremes_of_columns<decltype(type)>(v, parallel_for);
  });
  const std::ptrdiff_t n = found.columns;
  py::array least = new_array(n), largest = new_array(n);
  bool finite = x.shape(0) > 0;
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    const bool empty = found.least[c] > found.largest[c];
    finite =
        finite && (empty || (std::isfinite(found.least[c]) && std::isfinite(found.largest[c])));
    values_of(least)[c] = empty ? nan : found.least[c];
    values_of(largest)[c] = empty ? nan : found.largest[c];
  }
  return py::make_tuple(least, largest, finite);
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
    const without_gil_if_long released(views[0].size());
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
