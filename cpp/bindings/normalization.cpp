// Batch and layer normalization by themselves, of matrices in rows without gaps.
#include <memory>

#include "bindings/specs.hpp"
#include "network/normalization_layer.hpp"

namespace dlcore {

namespace {

// f(layer) of the one that is described, of the dtype of x.
template <class F>
void with_layer(py::handle spec, const py::array& x, const F& f) {
  dispatch(float_kind(x, {"normalize", "x"}), [&](auto type) {
    using T = decltype(type);
    const std::unique_ptr<layer<T>> own = make_layer<T>(read_layer<T>(spec, false));
    f(*own, x.shape(0), [&](const py::array& a) {
      return rows_of<T>{static_cast<T*>(const_cast<void*>(a.data())), own->in};
    });
  });
}

void normalize_rows(py::handle spec, const py::array& x, const py::array& y) {
  with_layer(spec, x, [&](auto& own, std::ptrdiff_t rows, const auto& matrix) {
    const auto from = matrix(x).read();
    const auto to = matrix(y);
    without_gil released;
    normalize(own, from, to, rows);
  });
}
void normalize_rows_backward(py::handle spec, const py::array& dy, const py::array& x,
                             const py::array& dx) {
  with_layer(spec, x, [&](auto& own, std::ptrdiff_t rows, const auto& matrix) {
    const auto from = matrix(x).read(), gradient = matrix(dy).read();
    const auto to = matrix(dx);
    without_gil released;
    normalize_backward(own, gradient, from, to, rows);
  });
}

}  // namespace

void bind_normalization(py::module_& m) {
  using py::arg;
  m.def("normalize", normalize_rows, arg("spec"), arg("x"), arg("y"));
  m.def("normalize_backward", normalize_rows_backward, arg("spec"), arg("dy"), arg("x"), arg("dx"));
}

}  // namespace dlcore
