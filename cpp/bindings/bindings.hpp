// The families of bindings: each checks its arguments, finds or makes the output, releases the GIL
// and runs a kernel. All that could fail is done before anything is written.
#pragma once

#include <functional>
#include <list>
#include <optional>

#include "bindings/arrays.hpp"
#include "kernels/activations.hpp"
#include "kernels/columns.hpp"
#include "kernels/losses.hpp"
#include "kernels/optimizers.hpp"
#include "kernels/softmax.hpp"
#include "network/linear.hpp"

namespace dlcore {

// ---- elementwise --------------------------------------------------------------------------------

// Views of arrays of one shape, for kernels that treat each element by itself: as one run where all
// are contiguous in the same order.
template <std::size_t K>
inline std::array<view, K> elementwise_views(const std::array<const py::array*, K>& arrays) {
  bool c = true, f = true;
  for (const py::array* a : arrays) {
    c = c && has_flag(*a, c_contiguous);
    f = f && has_flag(*a, f_contiguous);
  }
  std::array<view, K> views;
  for (std::size_t k = 0; k < K; ++k)
    views[k] = c || f ? flat_view_of(*arrays[k]) : view_of(*arrays[k]);
  return views;
}

// Whether a new output should be column-major, to be in the order of its inputs.
inline bool column_major(const py::array& a) {
  return has_flag(a, f_contiguous) && !has_flag(a, c_contiguous);
}

// A kernel for runs of either dtype.
struct any_run : run_ref<float>, run_ref<double> {
  template <class F>
  any_run(const F& f) : run_ref<float>(f), run_ref<double>(f) {}
};

inline py::object map_unary(const char* function, py::handle x_object, py::handle out_object,
                            double cost, const any_run& f) {
  kind k;
  const py::array x = float_array(x_object, {function, "x"}, k);
  const py::array out = output(out_object, function, x, "x", {{"x", &x}}, column_major(x));
  auto views = elementwise_views<2>({&x, &out});
  dispatch(k, [&](auto t) {
    using T = decltype(t);
    without_gil released;
    map_arrays<T>(f, views, cost);
  });
  return returned(out_object, out);
}

// ---- rows ---------------------------------------------------------------------------------------

inline int class_axis(const py::array& x, std::ptrdiff_t axis, const argument& arg) {
  const std::ptrdiff_t n = x.ndim();
  if (axis < -n || axis >= n)
    throw py::value_error(arg.text() + " " + std::to_string(axis) +
                          " is out of range for an array of " + std::to_string(n) + " dimensions");
  return int(axis < 0 ? axis + n : axis);
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

// The name of a gradient: the forward's with "_backward".
template <class Op>
inline const char* backward_name() {
  static const std::string name = std::string(Op::name) + "_backward";
  return name.c_str();
}

template <class Op>
inline py::object row_activation(const py::object& x_object, std::ptrdiff_t axis,
                                 const py::object& out_object) {
  kind k;
  const py::array x = float_array(x_object, {Op::name, "x"}, k);
  const int at = class_axis(x, axis, {Op::name, "axis"});
  const py::array out = output(out_object, Op::name, x, "x", {{"x", &x}});
  const std::array<row_view, 2> views{row_view_of(x, at), row_view_of(out, at)};
  const row_shape shape = row_shape_of(x, at);
  dispatch(k, [&](auto t) {
    without_gil released;
    Op::template forward<decltype(t)>(shape, views);
  });
  return returned(out_object, out);
}

template <class Op>
inline py::object row_activation_backward(const py::object& dy_object, const py::object& y_object,
                                          std::ptrdiff_t axis, const py::object& out_object) {
  const char* function = backward_name<Op>();
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
    Op::template backward<decltype(t)>(shape, views);
  });
  return returned(out_object, out);
}

// ---- losses -------------------------------------------------------------------------------------

inline bool is_text(py::handle object, const char* text) {
  return PyUnicode_Check(object.ptr()) && PyUnicode_CompareWithASCIIString(object.ptr(), text) == 0;
}

inline reduction reduction_of(py::handle name, const char* function) {
  if (is_text(name, "none")) return reduction::none;
  if (is_text(name, "mean")) return reduction::mean;
  if (is_text(name, "sum")) return reduction::sum;
  throw py::value_error(std::string(function) +
                        ": reduction must be 'none', 'mean' or 'sum', got " +
                        std::string(py::repr(name)));
}

// A NumPy scalar of the input's dtype.
inline py::object scalar_like(const py::array& a, double value) {
  using types = std::array<py::object, 2>;
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<types> storage;
  const types& scalar = storage
                            .call_once_and_store_result([] {
                              const auto numpy = py::module_::import("numpy");
                              return types{numpy.attr("float32"), numpy.attr("float64")};
                            })
                            .get_stored();
  return scalar[descr(a)->type_num == py::detail::npy_api::NPY_DOUBLE_](value);
}

// (loss, grad) with a gradient, else the loss.
inline py::object loss_result(py::object loss, bool with_grad, py::handle out_object,
                              const py::array& grad) {
  if (!with_grad) return loss;
  return py::make_tuple(std::move(loss), returned(out_object, grad));
}

// A loss for runs of either dtype.
struct any_loss : loss_ref<float>, loss_ref<double> {
  template <class F>
  any_loss(const F& f) : loss_ref<float>(f), loss_ref<double>(f) {}
};

// The arguments of an elementwise loss, checked. `mean_over`: what "mean" divides by. `extra`:
// weights of the elements, strided views of x's shape, where there are any.
struct elementwise_loss_call {
  kind k;
  const char *function, *x_name;
  py::handle out_object;
  bool with_grad;
  reduction how;
  double divisor;
  py::array x, losses = no_array(), grad = no_array();
  loss_operands operands;

  elementwise_loss_call(const char* function, py::handle x_object, py::handle t_object,
                        const char* x_name,
                        std::initializer_list<std::pair<const char*, py::handle>> extra,
                        reduction how, double mean_over, bool with_grad, py::handle out_object)
      : function(function),
        x_name(x_name),
        out_object(out_object),
        with_grad(with_grad),
        how(how),
        divisor(how == reduction::mean ? mean_over : 1.0) {
    x = float_array(x_object, {function, x_name}, k);
    const argument t_arg{function, "target"};
    const py::array t = float_array_like(t_object, t_arg, x, x_name);
    require_shape_of(t, t_arg, x, x_name);
    operands.add_input(view_of(x));
    operands.add_input(view_of(t));
    std::vector<std::pair<const char*, py::array>> weights;
    for (const auto& [name, object] : extra) {
      if (!object) continue;
      const argument arg{function, name};
      weights.emplace_back(name, float_array_like(object, arg, x, x_name));
      require_shape_of(weights.back().second, arg, x, x_name);
      operands.add_input(view_of(weights.back().second));
    }
    if (with_grad) {
      grad = output(out_object, function, x, x_name, {{x_name, &x}, {"target", &t}});
      for (const auto& [name, weight] : weights)
        if (!same_memory(grad, weight) && overlap(grad, weight))
          throw py::value_error(std::string(function) + ": out overlaps " + name);
    }
    if (how == reduction::none) losses = empty_array(x);
    operands.add_outputs(losses ? view_of(losses) : view(), grad ? view_of(grad) : view());
  }

  // K: the inputs of the functor. What comes after them is a weight.
  template <std::size_t K, class F>
  py::object run(const F& f, bool check_probabilities = false) {
    operands.weight = operands.inputs > K ? K : 0;
    return run(
        [&](auto in, auto n, auto ahead, const auto& to) { loss_run<K>(f, in, n, ahead, to); },
        F::cost, check_probabilities);
  }

 private:
  py::object run(const any_loss& f, double cost, bool check_probabilities) {
    double sum = 0;
    bool fine = true;
    dispatch(k, [&](auto type) {
      using T = decltype(type);
      without_gil released;
      fine = !check_probabilities || all_probabilities<T>({operands.views[0]});
      if (fine) sum = run_loss<T>(f, operands, cost, 1.0 / divisor);
    });
    if (!fine)
      throw py::value_error(std::string(function) + ": " + x_name + " must be between 0 and 1");
    py::object loss = how == reduction::none ? py::object(losses) : scalar_like(x, sum / divisor);
    return loss_result(std::move(loss), with_grad, out_object, grad);
  }
};

inline double element_count(py::handle x, const argument& arg) {
  return double(as_array(x, arg).size());
}

template <class F, class... Option>
inline py::object plain_loss(const py::object& x, const py::object& target, Option... option,
                             const py::object& how, bool with_grad, const py::object& out) {
  return elementwise_loss_call(F::name, x, target, "input", {}, reduction_of(how, F::name),
                               element_count(x, {F::name, "input"}), with_grad, out)
      .template run<2>(F{option...});
}

inline py::handle unless_none(py::handle object) {
  return object.is_none() ? py::handle() : object;
}

inline py::object bce_loss(py::handle x, py::handle target, py::handle weight, py::handle how,
                           bool with_grad, py::handle out) {
  const char* function = "binary_cross_entropy";
  const reduction r = reduction_of(how, function);
  const double n = element_count(x, {function, "input"});
  return elementwise_loss_call(function, x, target, "input", {{"weight", unless_none(weight)}}, r,
                               n, with_grad, out)
      .run<2>(binary_cross_entropy{}, true);
}

inline py::object bce_with_logits_loss(py::handle x, py::handle target, py::handle weight,
                                       py::handle pos_weight, py::handle how, bool with_grad,
                                       py::handle out) {
  const char* function = "binary_cross_entropy_with_logits";
  const reduction r = reduction_of(how, function);
  const double n = element_count(x, {function, "logits"});
  elementwise_loss_call call(
      function, x, target, "logits",
      {{"pos_weight", unless_none(pos_weight)}, {"weight", unless_none(weight)}}, r, n, with_grad,
      out);
  if (pos_weight.is_none()) return call.run<2>(binary_cross_entropy_with_logits<false>{});
  return call.run<3>(binary_cross_entropy_with_logits<true>{});
}

inline py::object quantile_loss_of(py::handle x, py::handle target, py::handle quantile,
                                   py::handle how, bool with_grad, py::handle out) {
  const char* function = "quantile_loss";
  return elementwise_loss_call(function, x, target, "input", {{"quantile", quantile}},
                               reduction_of(how, function), element_count(x, {function, "input"}),
                               with_grad, out)
      .run<3>(quantile_loss{});
}

inline py::object kl_div_loss(py::handle x, py::handle target, py::handle how, bool log_target,
                              bool with_grad, py::handle out) {
  const char* function = "kl_div";
  const py::array a = as_array(x, {function, "input"});
  // "batchmean" divides by the first dimension, where "mean" divides by all elements.
  const bool batch = is_text(how, "batchmean");
  if (batch && a.ndim() == 0)
    throw py::value_error("kl_div: reduction 'batchmean' needs an input of at least 1 dimension");
  const reduction r = batch ? reduction::mean : reduction_of(how, function);
  const double n = batch ? double(a.shape(0)) : double(a.size());
  elementwise_loss_call call(function, x, target, "input", {}, r, n, with_grad, out);
  return log_target ? call.run<2>(kl_div_log_target{}) : call.run<2>(kl_div{});
}

// The class axis of an input of shape (C), (N, C) or (N, C, d1, ...).
inline int loss_class_axis(const py::array& x, const argument& arg) {
  if (x.ndim() == 0)
    throw py::value_error(arg.text() +
                          " must have the shape (C,), (N, C) or (N, C, d1, ...), got ()");
  return x.ndim() == 1 ? 0 : 1;
}

// A weight for each class, contiguous.
template <class T>
inline std::vector<T> class_weights(const py::array& weight) {
  std::vector<T> w(weight.size());
  std::array<view, 1> v{view_of(weight)};
  collapse(v);
  if (!w.empty()) gather(v[0], 0, std::ptrdiff_t(w.size()), w.data());
  return w;
}

inline py::array losses_of_rows(const py::array& like, int axis) {
  std::vector<py::ssize_t> shape;
  for (int d = 0; d < like.ndim(); ++d)
    if (d != axis) shape.push_back(like.shape(d));
  return py::array(like.dtype(), shape);
}

inline std::string row_shape_text(const py::array& x, int axis) {
  return shape_text(losses_of_rows(x, axis));
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
    if (indices) {
      losses = losses_of_rows(x, axis);
      if (!same_shape(target, losses))
        throw py::value_error(std::string(function) + ": target must have the shape " +
                              shape_text(losses) + " (class indices)" + ", got " +
                              shape_text(target));
    }
    if (with_grad) {
      grad = output(out_object, function, x, x_name, {{x_name, &x}, {"target", &target, false}});
      if (!weight_object.is_none() && overlap(grad, weight))
        throw py::value_error(std::string(function) + ": out overlaps weight");
    }
  }

  view loss_view() {
    if (how != reduction::none) return {};
    losses = losses_of_rows(x, axis);
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

// `run(type, view of x, view of grad, target, options, sink)` runs a kernel over the rows and
// returns the sum of the losses.
template <class Run>
inline py::object index_loss(row_loss_call& call, std::ptrdiff_t ignore_index,
                             double label_smoothing, bool with_grad, py::handle out_object,
                             const Run& run) {
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
                                weighted ? weight.data() : nullptr);
      if (labels.first_bad < 0) {
        if (call.how == reduction::mean) divisor = labels.weight;
        row_loss_options<T> options{weighted ? weight.data() : nullptr, double(call.shape.classes),
                                    label_smoothing, ignore_index, 1.0 / divisor};
        if (weighted) {
          std::vector<double> wide(weight.begin(), weight.end());
          options.weight_sum = tree_sum(wide.data(), std::ptrdiff_t(wide.size()));
        }
        loss_sink<T> sink{losses, {}};
        sum = run(type, views, target, options, sink);
      }
    }
    if (labels.first_bad >= 0)
      bad_label(call.target, target_arg, labels.first_bad, call.shape.classes);
    return call.result(sum, divisor, with_grad, out_object);
  });
}

inline py::object probability_loss(row_loss_call& call, double label_smoothing, bool with_grad,
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
    loss_sink<T> sink{losses, {}};
    double sum;
    {
      without_gil released;
      sum = with_grad ? row_loss<T>(call.shape, views, 2.0,
                                    cross_entropy_probabilities<T, true>{options, sink})
                      : row_loss<T>(call.shape, views, 1.5,
                                    cross_entropy_probabilities<T, false>{options, sink});
    }
    return call.result(sum, divisor, with_grad, out_object);
  });
}

inline py::object cross_entropy(py::handle logits, py::handle target, py::handle weight,
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
      [&](auto type, const auto& views, const auto& t, const auto& options, auto& sink) {
        using T = decltype(type);
        const auto on = [&](const auto& kernel, double cost) {
          return row_loss<T>(call.shape, views, cost, kernel);
        };
        return with_grad ? on(cross_entropy_indices<T, true>{t, options, sink}, 0.8)
                         : on(cross_entropy_indices<T, false>{t, options, sink}, 0.6);
      });
}

inline py::object nll_loss(py::handle log_probabilities, py::handle target, py::handle weight,
                           std::ptrdiff_t ignore_index, py::handle how, bool with_grad,
                           py::handle out) {
  row_loss_call call("nll_loss", "input", log_probabilities, target, weight, how, with_grad, out);
  return index_loss(
      call, ignore_index, 0.0, with_grad, out,
      [&](auto type, const auto& views, const auto& t, const auto& options, auto& sink) {
        using T = decltype(type);
        return nll_indices<T>(call.shape, views[0], views[1], t, options, sink.losses);
      });
}

// ---- optimizers ---------------------------------------------------------------------------------

template <std::size_t K, std::size_t... I>
inline std::array<py::array, K> no_arrays(std::index_sequence<I...>) {
  return {((void)I, no_array())...};
}

// What an array of a step is called in messages.
inline constexpr const char* step_names[] = {"params", "grads", "state", "state", "state"};

// One parameter with its gradient and state: checked, and told apart from what needs no check.
template <std::size_t K>
struct step_row {
  std::array<py::array, K> arrays;

  // Whether all are plain arrays of one dtype and shape, and the gradient apart: nothing is to be
  // said about such a row. Most are, and a step over many small arrays has time for little more.
  bool plain(const std::array<py::list, K>& lists, std::size_t i) const {
    const auto& api = py::detail::npy_api::get();
    constexpr int wanted = c_contiguous | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const auto* first = py::detail::array_proxy(PyList_GET_ITEM(lists[0].ptr(), i));
    for (std::size_t k = 0; k < K; ++k) {
      PyObject* item = PyList_GET_ITEM(lists[k].ptr(), i);
      if (Py_TYPE(item) != api.PyArray_Type_) return false;
      const auto* a = py::detail::array_proxy(item);
      const int flags = wanted | (written(k) ? py::detail::npy_api::NPY_ARRAY_WRITEABLE_ : 0);
      if ((a->flags & flags) != flags || a->nd != first->nd ||
          !std::equal(a->dimensions, a->dimensions + a->nd, first->dimensions))
        return false;
      const auto* type = reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(a->descr);
      if (type != reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(first->descr) ||
          type->byteorder != '=' ||
          (type->type_num != py::detail::npy_api::NPY_FLOAT_ &&
           type->type_num != py::detail::npy_api::NPY_DOUBLE_))
        return false;
    }
    const auto grad = py::reinterpret_borrow<py::array>(PyList_GET_ITEM(lists[1].ptr(), i));
    const char *p = first->data, *g = static_cast<const char*>(grad.data());
    return p + grad.nbytes() <= g || g + grad.nbytes() <= p;
  }

  step_row(const char* function, const std::array<py::list, K>& lists, std::size_t i)
      : arrays(no_arrays<K>(std::make_index_sequence<K>())) {
    if (plain(lists, i)) {
      for (std::size_t k = 0; k < K; ++k)
        arrays[k] = py::reinterpret_borrow<py::array>(PyList_GET_ITEM(lists[k].ptr(), i));
      return;
    }
    const auto arg = [&](std::size_t k) {
      return argument{function, step_names[k], std::ptrdiff_t(i)};
    };
    kind type;
    const py::array p = float_array(lists[0][i], arg(0), type);
    arrays[0] = writeable_array(p, arg(0), p, "itself");
    arrays[1] = float_array_like(lists[1][i], arg(1), p, "its parameter");
    require_shape_of(arrays[1], arg(1), p, "its parameter");
    if (overlap(arrays[1], p))
      throw py::value_error(arg(1).text() + " shares memory with its parameter");
    for (std::size_t k = 2; k < K; ++k)
      arrays[k] = writeable_array(lists[k][i], arg(k), p, "its parameter");
  }
};

// The arrays of a step, checked: lists[0] the parameters, lists[1] the gradients, then the state.
template <std::size_t K>
struct step_arrays {
  std::vector<step_row<K>> rows;

  step_arrays(const char* function, const std::array<py::list, K>& lists) {
    const std::size_t n = lists[0].size();
    for (std::size_t k = 1; k < K; ++k)
      if (lists[k].size() != n)
        throw py::value_error(std::string(function) + ": " + step_names[k] +
                              " must hold one array for each parameter, " + std::to_string(n) +
                              ", got " + std::to_string(lists[k].size()));
    rows.reserve(n);
    for (std::size_t i = 0; i < n; ++i) rows.emplace_back(function, lists, i);
  }

  template <class F>
  void update(const F& f) const {
    std::list<std::array<view, K>> strided;
    std::vector<parameter<float, K>> singles;
    std::vector<parameter<double, K>> doubles;
    for (const step_row<K>& row : rows) {
      if (descr(row.arrays[0])->type_num == py::detail::npy_api::NPY_FLOAT_)
        add(singles, row.arrays, strided);
      else add(doubles, row.arrays, strided);
    }
    without_gil released;
    update_parameters(f, singles);
    update_parameters(f, doubles);
  }

 private:
  template <class T>
  static void add(std::vector<parameter<T, K>>& to, const std::array<py::array, K>& row,
                  std::list<std::array<view, K>>& strided) {
    add(to, row, strided, std::make_index_sequence<K>());
  }
  template <class T, std::size_t... I>
  static void add(std::vector<parameter<T, K>>& to, const std::array<py::array, K>& row,
                  std::list<std::array<view, K>>& strided, std::index_sequence<I...>) {
    const auto plain = [&](const py::array& a) {
      return has_flag(a, c_contiguous) && aligned<T>(static_cast<const char*>(a.data()));
    };
    if ((plain(row[I]) && ...)) {
      to.push_back(
          {{sequence<T>(static_cast<T*>(const_cast<void*>(row[I].data())))...}, row[0].size()});
    } else {
      strided.push_back({view_of(row[I])...});
      collapse(strided.back());
      to.push_back({{sequence<T>(strided.back()[I])...}, row[0].size()});
    }
  }
};

inline void sgd_step(const py::list& params, const py::list& grads, const py::object& buffers,
                     bool first, double lr, double momentum, double dampening, double weight_decay,
                     bool nesterov, bool maximize, double l1) {
  const sgd update{lr, momentum, dampening, weight_decay, l1, nesterov, maximize, first};
  if (buffers.is_none()) step_arrays<2>("SGD.step", {params, grads}).update(update);
  else step_arrays<3>("SGD.step", {params, grads, py::list(buffers)}).update(update);
}

inline void adam_step(const py::list& params, const py::list& grads, const py::list& exp_avgs,
                      const py::list& exp_avg_sqs, const py::object& max_exp_avg_sqs, double step,
                      double lr, double beta1, double beta2, double eps, double weight_decay,
                      bool decoupled, bool maximize, double l1) {
  adam update{lr, beta1,    beta2, eps, decoupled ? 0 : weight_decay, decoupled ? weight_decay : 0,
              l1, maximize, false};
  update.at_step(step);
  if (max_exp_avg_sqs.is_none())
    step_arrays<4>("Adam.step", {params, grads, exp_avgs, exp_avg_sqs}).update(update);
  else
    step_arrays<5>("Adam.step", {params, grads, exp_avgs, exp_avg_sqs, py::list(max_exp_avg_sqs)})
        .update(update);
}

inline double clip_grad_norm(const py::list& grads, double max_norm) {
  const char* function = "clip_grad_norm";
  std::vector<std::pair<py::array, kind>> arrays;
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const std::string name = "grads[" + std::to_string(i) + "]";
    kind k;
    py::array g = float_array(grads[i], {function, name.c_str()}, k);
    arrays.emplace_back(writeable_array(g, {function, name.c_str()}, g, "itself"), k);
  }
  double squares = 0;
  for (const auto& [g, k] : arrays) {
    dispatch(k, [&, &g = g](auto type) {
      const view v = view_of(g);
      without_gil released;
      squares += sum_of_squares<decltype(type)>({v});
    });
  }
  const double norm = std::sqrt(squares);
  // PyTorch's 1e-6. A NaN norm makes the gradients NaN, as there.
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1) return norm;
  for (const auto& [g, k] : arrays) {
    auto views = elementwise_views<2>({&g, &g});
    dispatch(k, [&](auto type) {
      using T = decltype(type);
      without_gil released;
      const auto scaled = [&](vec<T> x) { return x * vec<T>(T(factor)); };
      map_arrays<T>(
          [&](T* to, auto n, auto ahead, auto from) { map_run<T>(scaled, to, n, ahead, from[0]); },
          views, 0.1);
    });
  }
  return norm;
}

// ---- normalization ------------------------------------------------------------------------------

inline py::array matrix(py::handle object, const argument& arg, kind& k) {
  py::array x = float_array(object, arg, k);
  if (x.ndim() != 2)
    throw py::value_error(arg.text() + " must have two dimensions (rows, columns), got the shape " +
                          shape_text(x));
  return x;
}

// count, mean, variance, least, largest, and what the mean lost in rounding: one a column.
inline py::tuple column_stats(const char* function, py::handle x_object) {
  kind k;
  const py::array x = matrix(x_object, {function, "x"}, k);
  const view v = view_of(x);
  return dispatch(k, [&](auto type) {
    column_sums s(0);
    {
      without_gil released;
      s = column_statistics<decltype(type)>(v);
    }
    const std::ptrdiff_t n = s.columns;
    py::array_t<std::int64_t> count(n);
    py::array_t<double> mean(n), variance(n), least(n), largest(n), low(n);
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    for (std::ptrdiff_t c = 0; c < n; ++c) {
      const bool empty = s.count[c] == 0;
      const double m = s.shift[c] + s.offset[c], rest = (s.shift[c] - m) + s.offset[c];
      count.mutable_data()[c] = std::int64_t(s.count[c]);
      mean.mutable_data()[c] = empty ? nan : m;
      variance.mutable_data()[c] = empty ? nan : s.squares[c] / s.count[c];
      least.mutable_data()[c] = empty ? nan : s.least[c];
      largest.mutable_data()[c] = empty ? nan : s.largest[c];
      low.mutable_data()[c] = std::isfinite(rest) ? rest : 0.0;
    }
    return py::make_tuple(count, mean, variance, least, largest, low);
  });
}

// `map`: what to subtract, to multiply by and to add, one row of a contiguous float64 array each.
// `finite`: None where x has infinities, and what was written is of no use.
inline py::object affine(const char* function, py::handle x_object, const py::array& map,
                         double low, double high, py::handle out_object, bool finite) {
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
    infinite = affine_columns<decltype(type)>(of_columns, views);
  });
  if (infinite && finite) return py::none();
  return returned(out_object, out);
}

// ---- linear -------------------------------------------------------------------------------------

// The activation that a name stands for, with the options that it has by default.
inline std::optional<activation_spec> named_activation(py::handle name) {
  if (name.is_none()) return std::nullopt;
  std::string known;
  for (const activation_kind kind : all_activations) {
    if (is_text(name, info(kind).name)) return with_standard_options(kind);
    known += std::string(", '") + info(kind).name + "'";
  }
  known.replace(known.rfind(", "), 2, " or ");
  throw py::value_error("linear: activation must be None" + known + ", got " +
                        std::string(py::repr(name)));
}

// An array as rows of contiguous elements, copied where it is not.
template <class T>
inline rows_of<T> contiguous_rows(py::array& a) {
  const py::ssize_t item = sizeof(T), last = a.ndim() - 1;
  const bool rows = a.ndim() == 2 && a.strides(1) == item && a.strides(0) % item == 0 &&
                    aligned<T>(static_cast<const char*>(a.data()));
  if (rows) return {static_cast<T*>(const_cast<void*>(a.data())), a.strides(0) / item};
  if (!has_flag(a, c_contiguous) || !aligned<T>(static_cast<const char*>(a.data())))
    a = py::module_::import("numpy").attr("array")(a, py::arg("order") = "C");
  return {static_cast<T*>(const_cast<void*>(a.data())), a.shape(last)};
}

// The arguments of a linear layer, checked.
struct linear_call {
  kind k;
  py::array x, weight, bias = no_array();
  std::ptrdiff_t in, out, rows = 1;

  linear_call(const char* function, py::handle x_object, py::handle weight_object,
              py::handle bias_object) {
    x = float_array(x_object, {function, "x"}, k);
    const argument weight_arg{function, "weight"};
    weight = float_array_like(weight_object, weight_arg, x, "x");
    if (weight.ndim() != 2)
      throw py::value_error(weight_arg.text() + " must have the shape (out, in), got " +
                            shape_text(weight));
    out = weight.shape(0), in = weight.shape(1);
    if (x.ndim() == 0 || x.shape(x.ndim() - 1) != in)
      throw py::value_error(std::string(function) + ": x must have the shape (..., " +
                            std::to_string(in) + "), as weight has " + std::to_string(in) +
                            " columns, got " + shape_text(x));
    if (!bias_object.is_none()) {
      const argument arg{function, "bias"};
      bias = float_array_like(bias_object, arg, x, "x");
      if (bias.ndim() != 1 || bias.shape(0) != out)
        throw py::value_error(arg.text() + " must have the shape (" + std::to_string(out) +
                              ",), got " + shape_text(bias));
    }
    for (py::ssize_t d = 0; d + 1 < x.ndim(); ++d) rows *= x.shape(d);
  }

  // An array that says what shape and dtype y has, without memory of its own.
  py::array like_y() const {
    std::vector<py::ssize_t> shape(x.shape(), x.shape() + x.ndim()), strides(x.ndim(), 0);
    shape.back() = out;
    return py::array(x.dtype(), shape, strides, x.data(), x);
  }
  template <class T>
  linear_layer<T> layer() {
    const auto whole = [](py::array& a) {
      if (!has_flag(a, c_contiguous) || !aligned<T>(static_cast<const char*>(a.data())))
        a = py::module_::import("numpy").attr("array")(a, py::arg("order") = "C");
      return static_cast<T*>(const_cast<void*>(a.data()));
    };
    return linear_layer<T>(in, out, whole(weight), bias ? whole(bias) : nullptr);
  }
};

inline py::object linear(py::handle x, py::handle weight, py::handle bias, py::handle activation,
                         py::handle out_object) {
  const char* function = "linear";
  linear_call call(function, x, weight, bias);
  const std::optional<activation_spec> spec = named_activation(activation);
  const py::array like = call.like_y();
  const py::array y = output(out_object, function, like, "the result",
                             {{"x", &call.x, false},
                              {"weight", &call.weight, false},
                              {"bias", call.bias ? &call.bias : nullptr, false}});
  const bool direct =
      has_flag(y, c_contiguous) && (y.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_);
  const py::array to = direct ? y : empty_array(like);
  dispatch(call.k, [&](auto type) {
    using T = decltype(type);
    linear_layer<T> l = call.layer<T>();
    const rows_of<T> from = contiguous_rows<T>(call.x);
    without_gil released;
    linear_forward<T>(l, {from.first, from.step},
                      {static_cast<T*>(const_cast<void*>(to.data())), call.out}, call.rows, spec ? &*spec : nullptr);
  });
  if (!direct) py::module_::import("numpy").attr("copyto")(y, to);
  return returned(out_object, y);
}

// (dx, dweight, dbias)
inline py::tuple linear_gradients(py::handle dy_object, py::handle x, py::handle weight) {
  const char* function = "linear_backward";
  linear_call call(function, x, weight, py::none());
  const argument dy_arg{function, "dy"};
  py::array dy = float_array_like(dy_object, dy_arg, call.x, "x");
  require_shape_of(dy, dy_arg, call.like_y(), "the layer's result");
  const py::array dx = empty_array(call.x), dweight = empty_array(call.weight);
  const py::array dbias(call.x.dtype(), std::vector<py::ssize_t>{call.out});
  dispatch(call.k, [&](auto type) {
    using T = decltype(type);
    const auto data = [](const py::array& a) {
      return static_cast<T*>(const_cast<void*>(a.data()));
    };
    linear_layer<T> l = call.layer<T>();
    l.set_gradients(data(dweight), data(dbias));
    const rows_of<T> from = contiguous_rows<T>(call.x), slopes = contiguous_rows<T>(dy);
    without_gil released;
    dlcore::linear_backward<T>(l, {slopes.first, slopes.step}, {from.first, from.step},
                               {data(dx), call.in}, call.rows);
  });
  return py::make_tuple(dx, dweight, dbias);
}

}  // namespace dlcore
