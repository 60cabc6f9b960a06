#include "kernels/cross_entropy.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/fast_call.hpp"
#include "bindings/reduction.hpp"
#include "bindings/rows.hpp"

namespace dlcore {

namespace {

// The class axis of an input of shape (C), (N, C) or (N, C, d1, ...).
int loss_class_axis(const py::array& x, const argument& arg) {
  if (x.ndim() == 0)
    throw py::value_error(arg.text() +
                          " must have the shape (C,), (N, C) or (N, C, d1, ...), got ()");
  return x.ndim() == 1 ? 0 : 1;
}

// A weight for each class, contiguous.
template <class T>
std::vector<T> class_weights(const py::array& weight) {
  std::vector<T> w(weight.size());
  std::array<view, 1> v{view_of(weight)};
  collapse(v);
  if (!w.empty()) gather(v[0], 0, std::ptrdiff_t(w.size()), w.data());
  return w;
}

bool is_shape(const py::array& a, const std::vector<py::ssize_t>& shape) {
  return std::equal(a.shape(), a.shape() + a.ndim(), shape.begin(), shape.end());
}

// cross_entropy and nll_loss share all but the kernel. `run(options, target view, sink, views,
// shape)`.
struct row_loss_call {
  const char* function;
  const char* x_name;
  py::array x = no_array(), target = no_array(), weight = no_array(), grad = no_array(),
            losses = no_array();
  kind k;
  int axis;
  row_shape shape;
  reduction how;
  bool indices;

  row_loss_call(const char* function, const char* x_name, py::handle x_object,
                py::handle target_object, py::handle weight_object, py::handle reduction_name,
                bool with_grad, py::handle out_object)
      : function(function), x_name(x_name), how(reduction_of(reduction_name, function)) {
    x = float_array(x_object, {function, x_name}, k);
    axis = loss_class_axis(x, {function, x_name});
    shape = row_shape_of(x, axis);
    if (shape.classes > 0x7fffffff)
      throw py::value_error(std::string(function) + ": " + x_name +
                            " has more than 2^31 - 1 classes");
    if (shape.classes == 0 && shape.rows > 0)
      throw py::value_error(std::string(function) + ": " + x_name +
                            " has no classes: its shape is " + shape_text(x));
    target = as_array(target_object, {function, "target"});
    indices = is_integer(target);
    if (!weight_object.is_none()) {
      const argument arg{function, "weight"};
      weight = float_array_like(weight_object, arg, x, x_name);
      if (weight.ndim() != 1 || weight.shape(0) != shape.classes)
        throw py::value_error(arg.text() + " must have the shape (" +
                              std::to_string(shape.classes) + ",), one a class, got " +
                              shape_text(weight));
    }
    if (indices && !is_shape(target, shape_of_rows(x, axis)))
      throw py::value_error(std::string(function) + ": target must have the shape " +
                            shape_text(shape_of_rows(x, axis)) + " (class indices), got " +
                            shape_text(target));
    if (with_grad) {
      grad = output(out_object, function, x, x_name, {{x_name, &x}, {"target", &target, false}});
      if (!weight_object.is_none() && overlap(grad, weight))
        throw py::value_error(std::string(function) + ": out overlaps weight");
    }
  }

  view loss_view() {
    if (how != reduction::none) return {};
    losses = py::array(x.dtype(), shape_of_rows(x, axis));
    std::array<view, 1> v{view_of(losses)};
    collapse(v);
    return v[0];
  }
  row_view grad_view(bool with_grad) const {
    return with_grad ? row_view_of(grad, axis) : row_view{};
  }
  py::object result(double sum, double divisor, bool with_grad, py::handle out_object) const {
    py::object loss = how == reduction::none ? (losses.ndim() == 0 ? py::object(losses[py::tuple()])
                                                                   : py::object(losses))
                                             : scalar_like(x, sum / divisor);
    return loss_result(std::move(loss), with_grad, out_object, grad);
  }
};

// `run(type, views of x and grad, target, options, losses)` runs a kernel over the rows and returns
// the sum of the losses.
template <class Run>
py::object index_loss(row_loss_call& call, std::ptrdiff_t ignore_index, double label_smoothing,
                      bool with_grad, py::handle out_object, const Run& run) {
  const argument target_arg{call.function, "target"};
  index_view target = index_view_of(call.target, target_arg);
  std::array<view, 1> rows{target.rows};
  collapse(rows);
  target.rows = rows[0];
  const view losses = call.loss_view();
  const std::array<row_view, 2> views{row_view_of(call.x, call.axis), call.grad_view(with_grad)};
  return dispatch(call.k, [&](auto type) {
    using T = decltype(type);
    const bool weighted = bool(call.weight);
    std::vector<T> weight;
    if (weighted) weight = class_weights<T>(call.weight);
    double sum = 0, divisor = 1;
    index_summary labels;
    {
      without_gil released;
      labels = check_indices<T>(target, call.shape.rows, call.shape.classes, ignore_index,
                                weighted ? weight.data() : nullptr, parallel_for);
      if (labels.first_bad < 0) {
        if (call.how == reduction::mean) divisor = labels.weight;
        // Where all labels weigh nothing, the gradient is 0.
        const double scale = divisor == 0 ? 0.0 : 1.0 / divisor;
        row_loss_options<T> options{weighted ? weight.data() : nullptr, double(call.shape.classes),
                                    label_smoothing, ignore_index, scale};
        if (weighted) {
          std::vector<double> wide(weight.begin(), weight.end());
          options.weight_sum = tree_sum(wide.data(), std::ptrdiff_t(wide.size()));
        }
        sum = run(type, views, target, options, losses);
      }
    }
    if (labels.first_bad >= 0)
      bad_label(call.target, target_arg, labels.first_bad, call.shape.classes);
    return call.result(sum, divisor, with_grad, out_object);
  });
}

py::object probability_loss(row_loss_call& call, double label_smoothing, bool with_grad,
                            py::handle out_object) {
  const argument target_arg{call.function, "target"};
  if (descr(call.target)->kind != 'f')
    throw py::type_error(target_arg.text() +
                         " must hold class indices (an integer array) or class probabilities (" +
                         std::string(py::str(call.x.dtype())) + "), got " +
                         std::string(py::str(call.target.dtype())));
  float_array_like(call.target, target_arg, call.x, call.x_name);
  if (!same_shape(call.target, call.x))
    throw py::value_error(target_arg.text() + " must have the shape " + shape_text(call.x) +
                          " (class probabilities), got " + shape_text(call.target));
  const view losses = call.loss_view();
  const std::array<row_view, 3> views{row_view_of(call.x, call.axis),
                                      row_view_of(call.target, call.axis),
                                      call.grad_view(with_grad)};
  const double divisor = call.how == reduction::mean ? double(call.shape.rows) : 1.0;
  return dispatch(call.k, [&](auto type) {
    using T = decltype(type);
    const bool weighted = bool(call.weight);
    std::vector<T> weight;
    if (weighted) weight = class_weights<T>(call.weight);
    const row_loss_options<T> options{weighted ? weight.data() : nullptr, 0.0, label_smoothing, 0,
                                      1.0 / divisor};
    double sum;
    {
      without_gil released;
      sum = cross_entropy<T>(call.shape, views, options, losses, parallel_for);
    }
    return call.result(sum, divisor, with_grad, out_object);
  });
}

py::object cross_entropy_of(py::handle logits, py::handle target, py::handle weight,
                            std::ptrdiff_t ignore_index, double label_smoothing, py::handle how,
                            bool with_grad, py::handle out) {
  row_loss_call call("cross_entropy", "logits", logits, target, weight, how, with_grad, out);
  if (!call.indices) {
    if (ignore_index >= 0)
      throw py::value_error(
          "cross_entropy: ignore_index is for class indices; the target holds class probabilities");
    return probability_loss(call, label_smoothing, with_grad, out);
  }
  return index_loss(
      call, ignore_index, label_smoothing, with_grad, out,
      [&](auto type, const auto& views, const auto& t, const auto& options, const view& losses) {
        return cross_entropy<decltype(type)>(call.shape, views, t, options, losses, parallel_for);
      });
}

py::object negative_log_likelihood(py::handle log_probabilities, py::handle target,
                                   py::handle weight, std::ptrdiff_t ignore_index, py::handle how,
                                   bool with_grad, py::handle out) {
  row_loss_call call("nll_loss", "input", log_probabilities, target, weight, how, with_grad, out);
  return index_loss(
      call, ignore_index, 0.0, with_grad, out,
      [&](auto type, const auto& views, const auto& t, const auto& options, const view& losses) {
        return nll_loss<decltype(type)>(call.shape, views, t, options, losses, parallel_for);
      });
}

// Whether y are integers from 0 to below `classes`, of whatever shape: what training asks before
// each fit, in one pass instead of NumPy's five.
bool are_classes(py::handle y, std::ptrdiff_t classes) {
  if (!py::isinstance<py::array>(y)) return false;
  const auto a = py::reinterpret_borrow<py::array>(y);
  if (!is_integer(a) || !native_order(a)) return false;
  const index_view labels = index_view_of(a, {"are_classes", "y"});
  const std::ptrdiff_t n = a.size();
  std::array<std::int64_t, 256> block;
  std::uint64_t largest = 0;
  const auto read = [&] {
    for (std::ptrdiff_t i = 0; i < n; i += std::ptrdiff_t(block.size())) {
      const std::ptrdiff_t m = std::min<std::ptrdiff_t>(n - i, block.size());
      labels.read(i, m, block.data());
      for (std::ptrdiff_t j = 0; j < m; ++j) largest = std::max(largest, std::uint64_t(block[j]));
    }
  };
  if (n < 10'000) {
    read();
  } else {
    without_gil released;
    read();
  }
  return n == 0 || largest < std::uint64_t(classes);
}

}  // namespace

void bind_cross_entropy(py::module_& m) {
  define_fast(m, "are_classes", are_classes);
  define_fast(m, "cross_entropy", cross_entropy_of);
  define_fast(m, "nll_loss", negative_log_likelihood);
}

}  // namespace dlcore
