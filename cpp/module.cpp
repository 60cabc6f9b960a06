// The extension module, a table of contents. Compiled once for each instruction-set level.
//
// Python sees these functions through the thin wrappers of python/dlcore; signatures: _core.pyi.
#include "bindings.hpp"

namespace {

using namespace dlcore;
using py::arg;
using py::object;
using index = std::ptrdiff_t;

const char* compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

#if defined(_OPENMP)
constexpr bool has_openmp = true;
#else
constexpr bool has_openmp = false;
#endif

void bind_settings(py::module_& m) {
  m.attr("isa") = DLCORE_ISA;
  m.attr("version") = DLCORE_VERSION;
  m.attr("compiler") = compiler();
  m.attr("openmp") = has_openmp;
  m.attr("register_bytes") = register_bytes;
  m.def("set_num_threads", [](int n) { thread_settings::get().threads = n; }, arg("n"));
  m.def("get_num_threads", [] { return thread_settings::get().threads.load(); });
}

// The vector functions of math.hpp by themselves, for their tests.
void bind_math(py::module_& m) {
#define MATH(name, function) \
  m.def(name, [](const object& x, const object& out) { \
    return map_unary(name, x, out, 1.0, [](auto v) { return function(v); }); \
  }, arg("x"), arg("out"))
  MATH("exp", dlcore::exp);
  MATH("expm1", dlcore::expm1);
  MATH("log", dlcore::log);
  MATH("log1p", dlcore::log1p);
  MATH("normal_cdf", [](auto x) { return normal_cdf(x, normal_exponential(x)); });
#undef MATH
}

template <class Op>
void bind_activation(py::module_& m, const char* name, const char* backward_name) {
  m.def(name, [name](const object& x, const object& out) { return forward(name, Op{}, x, out); },
        arg("x"), arg("out"));
  m.def(backward_name, [backward_name](const object& dy, const object& x, const object& out) {
    return backward(backward_name, Op{}, dy, x, out);
  }, arg("dy"), arg("x"), arg("out"));
}

template <class Op>
void bind_activation(py::module_& m, const char* name, const char* backward_name,
                     const char* option) {
  m.def(name, [name](const object& x, double value, const object& out) {
    return forward(name, Op{value}, x, out);
  }, arg("x"), arg(option), arg("out"));
  m.def(backward_name,
        [backward_name](const object& dy, const object& x, double value, const object& out) {
    return backward(backward_name, Op{value}, dy, x, out);
  }, arg("dy"), arg("x"), arg(option), arg("out"));
}

void bind_activations(py::module_& m) {
  bind_activation<relu>(m, "relu", "relu_backward");
  bind_activation<leaky_relu>(m, "leaky_relu", "leaky_relu_backward", "negative_slope");
  bind_activation<elu>(m, "elu", "elu_backward", "alpha");
  bind_activation<gelu>(m, "gelu", "gelu_backward");
  bind_activation<gelu_tanh>(m, "gelu_tanh", "gelu_tanh_backward");
  bind_activation<silu>(m, "silu", "silu_backward");
  bind_activation<sigmoid_op>(m, "sigmoid", "sigmoid_backward");
  bind_activation<tanh_op>(m, "tanh", "tanh_backward");
  m.def("softplus", [](const object& x, double beta, double threshold, const object& out) {
    return forward("softplus", softplus{beta, threshold}, x, out);
  }, arg("x"), arg("beta"), arg("threshold"), arg("out"));
  m.def("softplus_backward", [](const object& dy, const object& x, double beta, double threshold,
                                const object& out) {
    return backward("softplus_backward", softplus{beta, threshold}, dy, x, out);
  }, arg("dy"), arg("x"), arg("beta"), arg("threshold"), arg("out"));
  m.def("softmax", [](const object& x, index axis, const object& out) {
    return softmax_forward("softmax", {softmax<float>, softmax<double>}, x, axis, out);
  }, arg("x"), arg("axis"), arg("out"));
  m.def("log_softmax", [](const object& x, index axis, const object& out) {
    return softmax_forward("log_softmax", {log_softmax<float>, log_softmax<double>}, x, axis, out);
  }, arg("x"), arg("axis"), arg("out"));
  m.def("softmax_backward", [](const object& dy, const object& y, index axis, const object& out) {
    return softmax_gradient("softmax_backward", {softmax_backward<float>, softmax_backward<double>},
                            dy, y, axis, out);
  }, arg("dy"), arg("y"), arg("axis"), arg("out"));
  m.def("log_softmax_backward", [](const object& dy, const object& y, index axis, const object& out) {
    return softmax_gradient("log_softmax_backward",
                            {log_softmax_backward<float>, log_softmax_backward<double>}, dy, y,
                            axis, out);
  }, arg("dy"), arg("y"), arg("axis"), arg("out"));
}

void bind_losses(py::module_& m) {
  m.def("cross_entropy", cross_entropy, arg("logits"), arg("target"), arg("weight"),
        arg("ignore_index"), arg("label_smoothing"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("nll_loss", nll_loss, arg("input"), arg("target"), arg("weight"), arg("ignore_index"),
        arg("reduction"), arg("with_grad"), arg("out"));
  m.def("binary_cross_entropy", bce_loss, arg("input"), arg("target"), arg("weight"),
        arg("reduction"), arg("with_grad"), arg("out"));
  m.def("binary_cross_entropy_with_logits", bce_with_logits_loss, arg("logits"), arg("target"),
        arg("weight"), arg("pos_weight"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("mse_loss", [](const object& x, const object& target, const object& how, bool with_grad,
                       const object& out) {
    return simple_loss("mse_loss", mse_loss{}, x, target, how, with_grad, out);
  }, arg("input"), arg("target"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("l1_loss", [](const object& x, const object& target, const object& how, bool with_grad,
                      const object& out) {
    return simple_loss("l1_loss", l1_loss{}, x, target, how, with_grad, out);
  }, arg("input"), arg("target"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("smooth_l1_loss", [](const object& x, const object& target, double beta, const object& how,
                             bool with_grad, const object& out) {
    return simple_loss("smooth_l1_loss", smooth_l1_loss{beta}, x, target, how, with_grad, out);
  }, arg("input"), arg("target"), arg("beta"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("huber_loss", [](const object& x, const object& target, double delta, const object& how,
                         bool with_grad, const object& out) {
    return simple_loss("huber_loss", huber_loss{delta}, x, target, how, with_grad, out);
  }, arg("input"), arg("target"), arg("delta"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("kl_div", kl_div_loss, arg("input"), arg("target"), arg("reduction"), arg("log_target"),
        arg("with_grad"), arg("out"));
}

void bind_optimizers(py::module_& m) {
  m.def("sgd_step", sgd_step, arg("params"), arg("grads"), arg("buffers"), arg("lr"),
        arg("momentum"), arg("dampening"), arg("weight_decay"), arg("nesterov"), arg("maximize"),
        arg("l1"), arg("first"));
  m.def("adam_step", adam_step, arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"),
        arg("max_exp_avg_sqs"), arg("step"), arg("lr"), arg("beta1"), arg("beta2"), arg("eps"),
        arg("weight_decay"), arg("decoupled"), arg("maximize"), arg("l1"));
  m.def("clip_grad_norm", dlcore::clip_grad_norm, arg("grads"), arg("max_norm"));
}

void bind_normalization(py::module_& m) {
  m.def("column_stats", dlcore::column_stats, arg("function"), arg("x"));
  m.def("affine_columns", affine, arg("function"), arg("x"), arg("subtract"), arg("multiply"),
        arg("add"), arg("low"), arg("high"), arg("out"));
}

}  // namespace

PYBIND11_MODULE(DLCORE_MODULE, m) {
  bind_settings(m);
  bind_math(m);
  bind_activations(m);
  bind_losses(m);
  bind_optimizers(m);
  bind_normalization(m);
}
