#include "network/linear.hpp"

#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "kernels/activations.hpp"

namespace dlcore {

namespace {

// The activation that a name stands for, with the options that it has by default.
std::optional<activation_spec> named_activation(py::handle name) {
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

py::array c_ordered(const py::array& a) {
  py::dict named;
  named["order"] = "C";
  return call_python("numpy", "array", py::make_tuple(a), named);
}

// An array as rows of contiguous elements, copied where it is not.
template <class T>
rows_of<T> contiguous_rows(py::array& a) {
  const py::ssize_t item = sizeof(T), last = a.ndim() - 1;
  const bool rows = a.ndim() == 2 && a.strides(1) == item && a.strides(0) % item == 0 &&
                    aligned<T>(static_cast<const char*>(a.data()));
  if (rows) return {static_cast<T*>(const_cast<void*>(a.data())), a.strides(0) / item};
  if (!has_flag(a, c_contiguous) || !aligned<T>(static_cast<const char*>(a.data())))
    a = c_ordered(a);
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
        a = c_ordered(a);
      return static_cast<T*>(const_cast<void*>(a.data()));
    };
    return linear_layer<T>(in, out, whole(weight), bias ? whole(bias) : nullptr);
  }
};

py::object linear(py::handle x, py::handle weight, py::handle bias, py::handle activation,
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
                      {static_cast<T*>(const_cast<void*>(to.data())), call.out}, call.rows,
                      spec ? &*spec : nullptr);
  });
  if (!direct) call_python("numpy", "copyto", py::make_tuple(y, to));
  return returned(out_object, y);
}

// (dx, dweight, dbias)
py::tuple linear_gradients(py::handle dy_object, py::handle x, py::handle weight) {
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

}  // namespace

void bind_linear(py::module_& m) {
  using py::arg;
  m.def("linear", linear, arg("x"), arg("weight"), arg("bias"), arg("activation"), arg("out"));
  m.def("linear_backward", linear_gradients, arg("dy"), arg("x"), arg("weight"));
}

}  // namespace dlcore
