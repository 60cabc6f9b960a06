// The elementwise losses of kernels/losses.inc.
#include "kernels/losses.hpp"

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/fast_call.hpp"
#include "bindings/options.hpp"
#include "bindings/reduction.hpp"
#include "kernels/reductions.hpp"

namespace dlcore {

namespace {

// The arguments of an elementwise loss, checked. `mean_over`: what "mean" divides by if not by the
// number of elements, without
// weights. `extra`: a further input, then weights of the elements, strided views of x's shape,
// where there are any.
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
                        reduction how, std::optional<double> mean_over, bool with_grad,
                        py::handle out_object)
      : function(function), x_name(x_name), out_object(out_object), with_grad(with_grad), how(how) {
    x = float_array(x_object, {function, x_name}, k);
    divisor = how == reduction::mean ? mean_over.value_or(double(x.size())) : 1.0;
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

  // What comes after the loss's own inputs is a weight.
  py::object run(const loss_spec& loss, weighted_mean mean, bool check_probabilities = false) {
    operands.weight = operands.inputs > info(loss.kind).inputs() ? info(loss.kind).inputs() : 0;
    double sum = 0;
    bool fine = true;
    dispatch(k, [&](auto type) {
      using T = decltype(type);
      without_gil released;
      const view &x_view = operands.views[0], &weight = operands.views[operands.weight];
      if (check_probabilities)
        fine = operands.weight ? all_weighted_probabilities<T>({x_view, weight}, parallel_for)
                               : all_probabilities<T>({x_view}, parallel_for);
      if (!fine) return;
      if (operands.weight && how == reduction::mean && mean == weighted_mean::by_weights)
        divisor = sum_of_elements<T>({weight}, parallel_for);
      // Where all weights are 0, so is the gradient.
      const double scale = divisor == 0 ? 0.0 : 1.0 / divisor;
      sum = elementwise_loss<T>(loss, operands, scale, parallel_for);
    });
    if (!fine)
      throw py::value_error(std::string(function) + ": " + x_name + " must be between 0 and 1");
    py::object result = how == reduction::none ? py::object(losses) : scalar_like(x, sum / divisor);
    return loss_result(std::move(result), with_grad, out_object, grad);
  }
};

// A loss of the list without arguments of its own. `further`: its third input, or null.
py::object plain_loss(const loss_spec& loss, py::handle x, py::handle target, py::handle further,
                      py::handle weight, py::handle how, bool with_grad, py::handle out) {
  const loss_info& of = info(loss.kind);
  return elementwise_loss_call(of.name, x, target, "input",
                               {{of.further, further}, {"weight", unless_none(weight)}},
                               reduction_of(how, of.name), std::nullopt, with_grad, out)
      .run(loss, of.mean);
}

py::object bce_loss(py::handle x, py::handle target, py::handle weight, py::handle how,
                    bool with_grad, py::handle out) {
  const char* function = "binary_cross_entropy";
  const reduction r = reduction_of(how, function);
  return elementwise_loss_call(function, x, target, "input", {{"weight", unless_none(weight)}}, r,
                               std::nullopt, with_grad, out)
      .run({loss_kind::binary_cross_entropy}, weighted_mean::by_number, true);
}

py::object bce_with_logits_loss(py::handle x, py::handle target, py::handle weight,
                                py::handle pos_weight, py::handle how, bool with_grad,
                                py::handle out) {
  const char* function = "binary_cross_entropy_with_logits";
  const reduction r = reduction_of(how, function);
  elementwise_loss_call call(
      function, x, target, "logits",
      {{"pos_weight", unless_none(pos_weight)}, {"weight", unless_none(weight)}}, r, std::nullopt,
      with_grad, out);
  return call.run(
      {pos_weight.is_none() ? loss_kind::binary_cross_entropy_with_logits
                            : loss_kind::binary_cross_entropy_with_logits_and_pos_weight},
      weighted_mean::by_number);
}

py::object kl_div_loss(py::handle x, py::handle target, py::handle weight, py::handle how,
                       bool log_target, bool with_grad, py::handle out) {
  const char* function = "kl_div";
  const py::array a = as_array(x, {function, "input"});
  // "batchmean" divides by the first dimension, where "mean" divides by all elements.
  const bool batch = is_text(how, "batchmean");
  if (batch && a.ndim() == 0)
    throw py::value_error("kl_div: reduction 'batchmean' needs an input of at least 1 dimension");
  const reduction r = batch ? reduction::mean : reduction_of(how, function);
  const double n = batch ? double(a.shape(0)) : double(a.size());
  elementwise_loss_call call(function, x, target, "input", {{"weight", unless_none(weight)}}, r, n,
                             with_grad, out);
  return call.run({log_target ? loss_kind::kl_div_log_target : loss_kind::kl_div},
                  batch ? weighted_mean::by_number : weighted_mean::by_weights);
}

void bind_plain_loss(py::module_& m, loss_kind kind) {
  using py::handle;
  const loss_info& loss = info(kind);
  if (loss.further)
    define_fast(m, loss.name,
                [kind](handle x, handle target, handle further, handle weight, handle how,
                       bool with_grad, handle out) {
                  return plain_loss({kind}, x, target, further, weight, how, with_grad, out);
                });
  else if (loss.option_count() > 0)
    define_fast(m, loss.name,
                [kind](handle x, handle target, handle option, handle weight, handle how,
                       bool with_grad, handle out) {
                  const double value = option_of(option, info(kind).options[0], info(kind).name);
                  return plain_loss({kind, {value}}, x, target, {}, weight, how, with_grad, out);
                });
  else
    define_fast(
        m, loss.name,
        [kind](handle x, handle target, handle weight, handle how, bool with_grad, handle out) {
          return plain_loss({kind}, x, target, {}, weight, how, with_grad, out);
        });
}

// Whether all elements are in [0, 1] or NaN.
bool are_probabilities(const char* function, const char* name, py::handle x_object) {
  kind k;
  const py::array x = float_array(x_object, {function, name}, k);
  const view of_x = view_of(x);
  return dispatch(k, [&](auto type) {
    without_gil released;
    return all_probabilities<decltype(type)>({of_x}, parallel_for);
  });
}

// The list: the options of each loss with their defaults, and the name of its third input or None.
py::dict listed_losses() {
  py::dict all;
  for (const loss_kind kind : all_losses) {
    const loss_info& loss = info(kind);
    if (!loss.plain) continue;
    py::dict options;
    for (std::size_t i = 0; i < loss.option_count(); ++i)
      options[loss.options[i].name] = loss.options[i].standard;
    all[loss.name] = py::make_tuple(
        options, loss.further ? py::object(py::str(loss.further)) : py::object(py::none()));
  }
  return all;
}

}  // namespace

void bind_losses(py::module_& m) {
  using py::arg;
  for (const loss_kind kind : all_losses)
    if (info(kind).plain) bind_plain_loss(m, kind);
  define_fast(m, "binary_cross_entropy", bce_loss);
  define_fast(m, "binary_cross_entropy_with_logits", bce_with_logits_loss);
  define_fast(m, "kl_div", kl_div_loss);
  m.def("all_probabilities", are_probabilities, arg("function"), arg("name"), arg("x"));
  m.def("losses", listed_losses);
}

}  // namespace dlcore
