// The extension module, a table of contents. Compiled once for each instruction-set level.
//
// Python sees these functions through the thin wrappers of python/dlcore; signatures: _core.pyi.
#include "bindings/bindings.hpp"

namespace dlcore {
void bind_activations(py::module_&);
void bind_network(py::module_&);
}

namespace {

using namespace dlcore;
using py::arg;
using py::object;

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

// The functions of math.hpp by themselves, for their tests.
template <class F>
void bind_function(py::module_& m, const char* name, F f) {
  const auto run = [name, f](const object& x, const object& out) {
    return map_unary(name, x, out, 1.0, [f](auto* to, auto n, auto ahead, auto from) {
      map_run(f, to, n, ahead, from[0]);
    });
  };
  m.def(name, run, arg("x"), arg("out"));
}

void bind_math(py::module_& m) {
  bind_function(m, "exp", [](auto x) { return exp(x); });
  bind_function(m, "expm1", [](auto x) { return expm1(x); });
  bind_function(m, "log", [](auto x) { return log(x); });
  bind_function(m, "log1p", [](auto x) { return log1p(x); });
  bind_function(m, "normal_cdf", [](auto x) { return normal_cdf(x, normal_exponential(x)); });
}

template <class Name>
using number = double;  // one for each name of an option

template <class Op>
void bind_row_activation(py::module_& m) {
  m.def(Op::name, row_activation<Op>, arg("x"), arg("axis"), arg("out"));
  m.def(backward_name<Op>(), row_activation_backward<Op>, arg("dy"), arg("y"), arg("axis"),
        arg("out"));
}

void bind_row_activations(py::module_& m) {
  bind_row_activation<softmax>(m);
  bind_row_activation<log_softmax>(m);
}

template <class F, class... Name>
void bind_plain_loss(py::module_& m, Name... option) {
  m.def(F::name, plain_loss<F, number<Name>...>, arg("input"), arg("target"), arg(option)...,
        arg("reduction"), arg("with_grad"), arg("out"));
}

void bind_losses(py::module_& m) {
  bind_plain_loss<mse_loss>(m);
  bind_plain_loss<l1_loss>(m);
  bind_plain_loss<smooth_l1_loss>(m, "beta");
  bind_plain_loss<huber_loss>(m, "delta");
  bind_plain_loss<poisson_nll_loss>(m);
  m.def("quantile_loss", quantile_loss_of, arg("input"), arg("target"), arg("quantile"),
        arg("reduction"), arg("with_grad"), arg("out"));
  m.def("cross_entropy", cross_entropy, arg("logits"), arg("target"), arg("weight"),
        arg("ignore_index"), arg("label_smoothing"), arg("reduction"), arg("with_grad"),
        arg("out"));
  m.def("nll_loss", nll_loss, arg("input"), arg("target"), arg("weight"), arg("ignore_index"),
        arg("reduction"), arg("with_grad"), arg("out"));
  m.def("binary_cross_entropy", bce_loss, arg("input"), arg("target"), arg("weight"),
        arg("reduction"), arg("with_grad"), arg("out"));
  m.def("binary_cross_entropy_with_logits", bce_with_logits_loss, arg("logits"), arg("target"),
        arg("weight"), arg("pos_weight"), arg("reduction"), arg("with_grad"), arg("out"));
  m.def("kl_div", kl_div_loss, arg("input"), arg("target"), arg("reduction"), arg("log_target"),
        arg("with_grad"), arg("out"));
}

void bind_optimizers(py::module_& m) {
  m.def("sgd_step", sgd_step, arg("params"), arg("grads"), arg("buffers"), arg("first"), arg("lr"),
        arg("momentum"), arg("dampening"), arg("weight_decay"), arg("nesterov"), arg("maximize"),
        arg("l1"));
  m.def("adam_step", adam_step, arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"),
        arg("max_exp_avg_sqs"), arg("step"), arg("lr"), arg("beta1"), arg("beta2"), arg("eps"),
        arg("weight_decay"), arg("decoupled"), arg("maximize"), arg("l1"));
  m.def("clip_grad_norm", dlcore::clip_grad_norm, arg("grads"), arg("max_norm"));
}

void bind_normalization(py::module_& m) {
  m.def("column_stats", dlcore::column_stats, arg("function"), arg("x"));
  m.def("affine_columns", affine, arg("function"), arg("x"), arg("map"), arg("low"), arg("high"),
        arg("out"), arg("finite") = false);
}

void bind_linear(py::module_& m) {
  m.def("linear", linear, arg("x"), arg("weight"), arg("bias"), arg("activation"), arg("out"));
  m.def("linear_backward", linear_gradients, arg("dy"), arg("x"), arg("weight"));
}

}  // namespace

PYBIND11_MODULE(DLCORE_MODULE, m) {
  bind_settings(m);
  bind_math(m);
  dlcore::bind_activations(m);
  bind_row_activations(m);
  bind_losses(m);
  bind_optimizers(m);
  bind_normalization(m);
  bind_linear(m);
  dlcore::bind_network(m);
}
