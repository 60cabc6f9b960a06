// The activations of kernels/activations.inc.
#include "kernels/activations.hpp"

#include <algorithm>
#include <utility>

#include "bindings/elementwise.hpp"
#include "bindings/fast_call.hpp"
#include "bindings/options.hpp"

namespace dlcore {

namespace {

using py::object;

object forward(const activation_spec& spec, py::handle x, py::handle out) {
  return map_unary(name(spec.kind), x, out, cost(spec.kind),
                   [&spec](auto* y, auto n, auto ahead, auto in) {
                     using T = std::remove_pointer_t<decltype(y)>;
                     forward_of<T>(spec.kind)(spec.options, y, n, ahead, in[0]);
                   });
}

object backward(const activation_spec& spec, py::handle dy_object, py::handle x_object,
                py::handle out_object) {
  const char* function = info(spec.kind).backward_name;
  kind k;
  const py::array x = float_array(x_object, {function, "x"}, k);
  const argument dy_arg{function, "dy"};
  const py::array dy = float_array_like(dy_object, dy_arg, x, "x");
  require_shape_of(dy, dy_arg, x, "x");
  const py::array out =
      output(out_object, function, x, "x", {{"dy", &dy}, {"x", &x}}, column_major(x));
  auto views = elementwise_views<3>({&dy, &x, &out});
  dispatch(k, [&](auto t) {
    using T = decltype(t);
    const auto run = [&spec, f = backward_of<T>(spec.kind)](T* dx, auto n, auto ahead, auto in) {
      f(spec.options, dx, n, ahead, in[0], in[1]);
    };
    without_gil released;
    map_arrays<T>(run, views, cost(spec.kind));
  });
  return returned(out_object, out);
}

template <std::size_t>
using number = py::handle;  // one for each option

template <class... Number>
activation_spec spec_of(activation_kind kind, [[maybe_unused]] const char* function,
                        Number... value) {
  const auto& option = info(kind).options;
  [[maybe_unused]] std::size_t i = 0;
  // A braced list is evaluated in order.
  const std::array<double, sizeof...(value)> values{option_of(value, option[i++], function)...};
  activation_spec spec{kind};
  std::copy(values.begin(), values.end(), spec.options);
  return spec;
}

// Options: 0, 1, ... of them.
template <std::size_t... Option>
void bind_activation(py::module_& m, activation_kind kind, std::index_sequence<Option...>) {
  define_fast(m, info(kind).name, [kind](py::handle x, number<Option>... value, py::handle out) {
    return forward(spec_of(kind, info(kind).name, value...), x, out);
  });
  define_fast(m, info(kind).backward_name,
              [kind](py::handle dy, py::handle x, number<Option>... value, py::handle out) {
                return backward(spec_of(kind, info(kind).backward_name, value...), dy, x, out);
              });
}

// The list: the options of each activation with their defaults, and its Lipschitz constant with
// these.
py::dict listed_activations() {
  py::dict all;
  for (const activation_kind kind : all_activations) {
    py::dict options;
    for (std::size_t i = 0; i < info(kind).option_count(); ++i)
      options[info(kind).options[i].name] = info(kind).options[i].standard;
    all[name(kind)] = py::make_tuple(options, lipschitz(with_standard_options(kind)));
  }
  return all;
}

}  // namespace

void bind_activations(py::module_& m) {
  for (const activation_kind kind : all_activations) {
    static_assert(activation_info::most_options == 2);
    switch (info(kind).option_count()) {
      case 0:
        bind_activation(m, kind, std::index_sequence<>());
        break;
      case 1:
        bind_activation(m, kind, std::index_sequence<0>());
        break;
      case 2:
        bind_activation(m, kind, std::index_sequence<0, 1>());
    }
  }
  m.def("activations", listed_activations);
}

}  // namespace dlcore
