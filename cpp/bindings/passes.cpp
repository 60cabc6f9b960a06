// The passes of a network, forward and back, called one by one.
#include <atomic>
#include <numeric>
#include <variant>

#include "bindings/interruptible.hpp"
#include "bindings/specs.hpp"
#include "network/training_step.hpp"

namespace dlcore {

namespace {

template <class T>
class passes_of {
 public:
  passes_of(const py::tuple& layers, std::ptrdiff_t most_rows)
      : net_(read_network<T>(layers), true),
        step_(net_, most_rows, nullptr, true, true),
        most_rows_(most_rows) {
    order_.resize(most_rows * net_.copies());
    std::iota(order_.begin(), order_.end(), 0);
  }

  bool takes_inputs(const py::array& x) const {
    return is_matrix(x, net_.in()) && x.shape(0) <= most_rows_;
  }
  bool takes_gradient(const py::array& dy) const {
    return is_matrix(dy, net_.out()) && dy.shape(0) == rows_ * net_.copies();
  }
  // Of the pass forward that can go back; negative: there is none.
  std::ptrdiff_t rows() const { return rows_; }

  // None where a value is no category.
  py::object forward(const py::array& x, std::uint64_t key) {
    const matrix_rows<T> from = read_matrix<T>(x);
    const std::ptrdiff_t n = x.shape(0), width = net_.out(), rows = n * net_.copies();
    py::array_t<T> y({rows, width});
    const rows_of<T> to{y.mutable_data(), width};
    rows_ = -1;
    bool fine = false;
    try {
      interruptible(net_.cost() * double(n), [&] {
        fine = step_.forward(from, order_.data(), n, key);
        copy_rows<T>(step_.outputs().read(), to, rows, width);
      });
    } catch (...) {
      step_.undo();
      throw;
    }
    if (!fine) {
      step_.undo();
      return py::none();
    }
    rows_ = n;
    return std::move(y);
  }

  py::array backward(const py::array& dy, bool add) {
    const matrix_rows<T> from = read_matrix<T>(dy);
    const std::ptrdiff_t n = rows_, width = net_.in();
    py::array_t<T> dx({n, width});
    const rows_of<T> to{dx.mutable_data(), width};
    interruptible(net_.cost() * double(n), [&] {
      from.gather(order_.data(), n * net_.copies(), step_.output_gradients());
      if (!add) step_.forget();
      step_.backward(n);
      copy_rows<T>(step_.input_gradients().read(), to, n, width);
    });
    return std::move(dx);
  }

 private:
  network<T> net_;
  training_step<T> step_;
  std::ptrdiff_t most_rows_;
  std::vector<std::int64_t> order_;
  std::atomic<std::ptrdiff_t> rows_{-1};

  static bool is_matrix(const py::array& x, std::ptrdiff_t width) {
    return is_array_of<T>(x) && x.ndim() == 2 && x.shape(1) == width;
  }
};

class py_passes {
 public:
  py_passes(bool is_double, const py::tuple& layers, std::ptrdiff_t most_rows, std::uint64_t key)
      : layers_(layers), key_(key) {
    if (most_rows < 1) throw py::value_error("most_rows must be at least 1");
    dispatch(kind_of(is_double), [&](auto type) {
      using T = decltype(type);
      passes_ = std::make_unique<passes_of<T>>(layers, most_rows);
    });
  }

  // The outputs for x as it should be: a matrix of the network's dtype and width, of at most so
  // many rows. None for anything else.
  py::object forward(const py::object& x) {
    if (!py::isinstance<py::array>(x)) return py::none();
    const auto a = py::reinterpret_borrow<py::array>(x);
    return std::visit(
        [&](auto& own) -> py::object {
          if (!own->takes_inputs(a)) return py::none();
          const sole_use use(is_in_use_, in_use);
          return own->forward(a, key_ += 0x9e3779b97f4a7c15u);
        },
        passes_);
  }
  // The gradient of x for that of the outputs; None unless it has their dtype and shape.
  py::object backward(const py::object& dy, bool add) {
    if (!py::isinstance<py::array>(dy)) return py::none();
    const auto a = py::reinterpret_borrow<py::array>(dy);
    return std::visit(
        [&](auto& own) -> py::object {
          const sole_use use(is_in_use_, in_use);
          if (!own->takes_gradient(a)) return py::none();
          return own->backward(a, add);
        },
        passes_);
  }
  std::ptrdiff_t rows() const {
    return std::visit([](const auto& own) { return own->rows(); }, passes_);
  }
  std::uint64_t key() const { return key_; }

 private:
  static constexpr const char* in_use =
      "another thread is in a pass of this model, forward or back: it can take one at a time";

  py::tuple layers_;                // what keeps the parameters and gradients
  std::atomic<std::uint64_t> key_;  // of what the layers have drawn last
  std::atomic<bool> is_in_use_{false};
  std::variant<std::unique_ptr<passes_of<float>>, std::unique_ptr<passes_of<double>>> passes_;
};

}  // namespace

void bind_passes(py::module_& m) {
  using py::arg;
  py::class_<py_passes>(m, "Passes", py::module_local())
      .def(py::init<bool, const py::tuple&, std::ptrdiff_t, std::uint64_t>(), arg("is_double"),
           arg("layers"), arg("most_rows"), arg("key"))
      .def("forward", &py_passes::forward, arg("x"))
      .def("backward", &py_passes::backward, arg("dy"), arg("add"))
      .def_property_readonly("rows", &py_passes::rows)
      .def_property_readonly("key", &py_passes::key);
}

}  // namespace dlcore
