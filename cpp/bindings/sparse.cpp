// Sparse matrices in compressed rows, checked once before networks read them.
#include "bindings/arrays.hpp"
#include "kernels/sparse_rows.hpp"

namespace dlcore {

namespace {

template <class T>
T* data_of(const py::array& a) {
  return static_cast<T*>(const_cast<void*>(a.data()));
}

// f of a null pointer to the type of the indices.
template <class F>
auto with_index(const py::array& a, const F& f) {
  return a.itemsize() == 8 ? f(static_cast<std::int64_t*>(nullptr))
                           : f(static_cast<std::int32_t*>(nullptr));
}

// Whether the columns of each row ascend. The arrays are as CompressedRows has made them: without
// gaps, indices and starts of one type.
bool rows_ascend(const std::string& name, const py::array& indices, const py::array& indptr,
                 std::ptrdiff_t elements, std::ptrdiff_t width) {
  std::ptrdiff_t bad = 0;
  const row_order order = with_index(indices, [&](auto* type) {
    using I = std::remove_pointer_t<decltype(type)>;
    without_gil released;
    return order_of_rows(data_of<I>(indptr), std::ptrdiff_t(indptr.size()) - 1, data_of<I>(indices),
                         std::min<std::ptrdiff_t>(indices.size(), elements), width, bad);
  });
  if (order == row_order::bad_starts)
    throw py::value_error(name + ": indptr must ascend from 0 to at most the " +
                          std::to_string(elements) + " elements");
  if (order == row_order::bad_column)
    throw py::value_error(name + ": indices must be < " + std::to_string(width) +
                          " and not negative, got " + std::to_string(bad));
  return order == row_order::ascending;
}

// (data, indices, indptr) with ascending columns, of which none is there twice.
py::tuple sorted_rows(const py::array& data, const py::array& indices, const py::array& indptr) {
  const auto like = [](const py::array& a, py::ssize_t size) {
    return py::array(a.dtype(), std::vector<py::ssize_t>{size});
  };
  const py::array values = like(data, indices.size()), columns = like(indices, indices.size());
  const py::array starts = like(indptr, indptr.size());
  const std::ptrdiff_t rows = indptr.size() - 1;
  const auto sort = [&](auto* value) {
    using T = std::remove_pointer_t<decltype(value)>;
    return with_index(indices, [&](auto* type) {
      using I = std::remove_pointer_t<decltype(type)>;
      without_gil released;
      return sort_rows(data_of<T>(data), data_of<I>(indices), data_of<I>(indptr), rows,
                       data_of<T>(values), data_of<I>(columns), data_of<I>(starts));
    });
  };
  const std::ptrdiff_t count = data.itemsize() == 8 ? sort(static_cast<double*>(nullptr))
                                                    : sort(static_cast<float*>(nullptr));
  const py::slice used(0, count, 1);
  return py::make_tuple(values[used], columns[used], starts);
}

}  // namespace

void bind_sparse(py::module_& m) {
  using py::arg;
  m.def("rows_ascend", rows_ascend, arg("name"), arg("indices"), arg("indptr"), arg("elements"),
        arg("width"));
  m.def("sort_rows", sorted_rows, arg("data"), arg("indices"), arg("indptr"));
}

}  // namespace dlcore
