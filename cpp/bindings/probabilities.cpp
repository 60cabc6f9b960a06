#include "kernels/probabilities.hpp"

#include "bindings/fast_call.hpp"

namespace dlcore {

namespace {

// Logits of shape (N, classes), contiguous, as the estimators have them of a network.
py::array logits_of(py::handle logits, const argument& arg, kind& k) {
  const py::array x = float_array(logits, arg, k);
  if (x.ndim() != 2 || !(x.flags() & py::array::c_style))
    throw py::value_error(arg.text() + " must be a contiguous matrix");
  return x;
}

py::array of_classes(py::handle logits) {
  kind k;
  py::array x = logits_of(logits, {"class_probabilities", "logits"}, k);
  const std::ptrdiff_t n = x.shape(0), classes = x.shape(1);
  dispatch(k, [&](auto type) {
    auto* rows = static_cast<decltype(type)*>(x.mutable_data());
    const without_gil released;
    class_probabilities(rows, n, classes);
  });
  return x;
}

py::array of_two(py::handle logits) {
  kind k;
  const py::array x = logits_of(logits, {"binary_probabilities", "logits"}, k);
  const std::ptrdiff_t n = x.size();
  py::array p(x.dtype(), std::vector<py::ssize_t>{n, 2});
  dispatch(k, [&](auto type) {
    using T = decltype(type);
    const auto* from = static_cast<const T*>(x.data());
    auto* to = static_cast<T*>(p.mutable_data());
    const without_gil released;
    binary_probabilities(from, to, n);
  });
  return p;
}

}  // namespace

void bind_probabilities(py::module_& m) {
  define_fast(m, "class_probabilities", of_classes);
  define_fast(m, "binary_probabilities", of_two);
}

}  // namespace dlcore
