// The activations of kernels/activations.inc.
#include "kernels/activations.hpp"

#include <algorithm>

#include "bindings/elementwise.hpp"
#include "bindings/options.hpp"

namespace dlcore {

namespace {

using py::arg;
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

template <class>
using number = py::handle;  // one for each name of an option

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

// `option`: the names of its options.
template <class... Name>
void bind_activation(py::module_& m, activation_kind kind, Name... option) {
  m.def(
      info(kind).name,
      [kind](const object& x, number<Name>... value, const object& out) {
        return forward(spec_of(kind, info(kind).name, value...), x, out);
      },
      arg("x"), arg(option)..., arg("out"));
  m.def(
      info(kind).backward_name,
      [kind](const object& dy, const object& x, number<Name>... value, const object& out) {
        return backward(spec_of(kind, info(kind).backward_name, value...), dy, x, out);
      },
      arg("dy"), arg("x"), arg(option)..., arg("out"));
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
    const auto& option = info(kind).options;
    static_assert(activation_info::most_options == 2);
    switch (info(kind).option_count()) {
      case 0:
        bind_activation(m, kind);
        break;
      case 1:
        bind_activation(m, kind, option[0].name);
        break;
      case 2:
        bind_activation(m, kind, option[0].name, option[1].name);
    }
  }
  m.def("activations", listed_activations);
}

}  // namespace dlcore
