#include "kernels/optimizers.hpp"

#include <cmath>
#include <list>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bindings/array_spans.hpp"
#include "bindings/elementwise.hpp"
#include "bindings/fast_call.hpp"
#include "kernels/gradient_norm.hpp"

namespace dlcore {

namespace {

template <std::size_t K, std::size_t... I>
std::array<py::array, K> no_arrays(std::index_sequence<I...>) {
  return {((void)I, no_array())...};
}

// What an array of a step is called in messages.
constexpr const char* step_names[] = {"params", "grads", "state", "state", "state"};

// A part of a step, ((numbers of the parameters, parameters, lists of state, options), steps made,
// what is new of the state): what one call of the kernel updates.
struct step_part {
  PyObject *members, *params, *state, *values;
  PyObject *steps_made, *news;

  // What is read without a check is there, as the package makes it.
  static bool fits(PyObject* part) {
    if (!PyTuple_Check(part) || PyTuple_GET_SIZE(part) != 3) return false;
    PyObject* const lasting = PyTuple_GET_ITEM(part, 0);
    return PyTuple_Check(lasting) && PyTuple_GET_SIZE(lasting) == 4 &&
           PyList_Check(PyTuple_GET_ITEM(lasting, 0)) &&
           PyList_Check(PyTuple_GET_ITEM(lasting, 1)) &&
           PyTuple_Check(PyTuple_GET_ITEM(lasting, 2)) &&
           PyTuple_Check(PyTuple_GET_ITEM(lasting, 3));
  }
  explicit step_part(PyObject* part) {
    PyObject* const lasting = PyTuple_GET_ITEM(part, 0);
    members = PyTuple_GET_ITEM(lasting, 0), params = PyTuple_GET_ITEM(lasting, 1);
    state = PyTuple_GET_ITEM(lasting, 2), values = PyTuple_GET_ITEM(lasting, 3);
    steps_made = PyTuple_GET_ITEM(part, 1), news = PyTuple_GET_ITEM(part, 2);
  }
  // Whether there are so many lists of state, all of one length, for gradients that are there.
  bool fits(std::size_t states, std::size_t options, const py::list& grads) const {
    if (PyTuple_GET_SIZE(values) != Py_ssize_t(options) || PyList_GET_SIZE(members) != size() ||
        PyTuple_GET_SIZE(state) != Py_ssize_t(states))
      return false;
    for (std::size_t k = 0; k < states; ++k) {
      PyObject* const arrays = PyTuple_GET_ITEM(state, k);
      if (!PyList_Check(arrays) || PyList_GET_SIZE(arrays) != size()) return false;
    }
    for (std::ptrdiff_t i = 0; i < size(); ++i)
      if (member(i) < 0 || member(i) >= PyList_GET_SIZE(grads.ptr())) return false;
    return true;
  }
  std::ptrdiff_t size() const { return PyList_GET_SIZE(params); }
  std::ptrdiff_t member(std::ptrdiff_t i) const {
    return PyLong_AsSsize_t(PyList_GET_ITEM(members, i));
  }
  double steps() const { return PyFloat_AsDouble(steps_made); }
  bool fresh() const { return PyObject_IsTrue(news) == 1; }
  double number(Py_ssize_t i) const { return PyFloat_AsDouble(PyTuple_GET_ITEM(values, i)); }
  bool flag(Py_ssize_t i) const { return PyObject_IsTrue(PyTuple_GET_ITEM(values, i)) == 1; }
};

// One parameter with its gradient and state: checked, and told apart from what needs no check.
template <std::size_t K>
struct step_row {
  std::array<py::array, K> arrays;
  std::ptrdiff_t number;  // in the optimizer

  // Whether all are plain arrays of one dtype and shape: nothing is to be said about such a row.
  // Most are, and a step over many small arrays has time for little more.
  static bool plain(const std::array<PyObject*, K>& items) {
    const auto& api = py::detail::npy_api::get();
    constexpr int wanted = c_contiguous | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const auto* first = py::detail::array_proxy(items[0]);
    for (std::size_t k = 0; k < K; ++k) {
      if (Py_TYPE(items[k]) != api.PyArray_Type_) return false;
      const auto* a = py::detail::array_proxy(items[k]);
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
    return true;
  }

  step_row(const char* function, const std::array<PyObject*, K>& items, std::ptrdiff_t number)
      : arrays(no_arrays<K>(std::make_index_sequence<K>())), number(number) {
    if (plain(items)) {
      for (std::size_t k = 0; k < K; ++k) arrays[k] = py::reinterpret_borrow<py::array>(items[k]);
      return;
    }
    const auto arg = [&](std::size_t k) { return argument{function, step_names[k], number}; };
    kind type;
    const py::array p = float_array(items[0], arg(0), type);
    arrays[0] = writeable_array(p, arg(0), p, "itself");
    arrays[1] = float_array_like(items[1], arg(1), p, "its parameter");
    require_shape_of(arrays[1], arg(1), p, "its parameter");
    for (std::size_t k = 2; k < K; ++k)
      arrays[k] = writeable_array(items[k], arg(k), p, "its parameter");
  }
};

// The addresses [low, high) of an array.
struct address_range {
  const char *low = nullptr, *high = nullptr;

  address_range() = default;
  explicit address_range(const py::array& array) {
    const auto* a = py::detail::array_proxy(array.ptr());
    if ((a->flags & c_contiguous) == 0) {
      extent(array, low, high);
      return;
    }
    const bool is_float = descr(array)->type_num == py::detail::npy_api::NPY_FLOAT_;
    std::ptrdiff_t bytes = is_float ? sizeof(float) : sizeof(double);
    for (int d = 0; d < a->nd; ++d) bytes *= a->dimensions[d];
    low = a->data, high = low + bytes;
  }
  void include(const address_range& other) {
    low = low ? std::min(low, other.low) : other.low, high = std::max(high, other.high);
  }
};

// Raises for a gradient that shares memory with a parameter: it would be read after that was
// written, or before, as the threads come to it. each(f): f(parameter, gradient, number) of all of
// them.
template <class Each>
void require_apart(const char* function, const Each& each) {
  std::size_t count = 0;
  address_range params, grads;
  each([&](const py::array& p, const py::array& gradient, std::ptrdiff_t) {
    params.include(address_range(p)), grads.include(address_range(gradient));
    ++count;
  });
  if (count == 0 || params.high <= grads.low || grads.high <= params.low) return;
  struct pair {
    const py::array *p, *gradient;
    std::ptrdiff_t number;
  };
  std::vector<pair> pairs;
  array_spans params_at, grads_at;
  pairs.reserve(count), params_at.reserve(count), grads_at.reserve(count);
  each([&](const py::array& p, const py::array& gradient, std::ptrdiff_t number) {
    const address_range own(p), other(gradient);
    params_at.add(own.low, own.high, std::ptrdiff_t(pairs.size()));
    grads_at.add(other.low, other.high, std::ptrdiff_t(pairs.size()));
    pairs.push_back({&p, &gradient, number});
  });
  params_at.order(), grads_at.order();
  const pair *gradient = nullptr, *parameter = nullptr;  // the first ones that do
  grads_at.each_meeting(params_at, [&](std::ptrdiff_t g, std::ptrdiff_t p) {
    const bool is_later =
        gradient && (gradient < &pairs[g] || (gradient == &pairs[g] && parameter < &pairs[p]));
    if (!is_later && overlap(*pairs[g].gradient, *pairs[p].p))
      gradient = &pairs[g], parameter = &pairs[p];
  });
  if (!gradient) return;
  const std::string other =
      gradient == parameter ? "its parameter" : "params[" + std::to_string(parameter->number) + "]";
  throw py::value_error(argument{function, "grads", gradient->number}.text() +
                        " shares memory with " + other);
}

// The arrays of a part of a step, checked: parameter, gradient, then the state.
template <std::size_t K>
struct step_arrays {
  std::vector<step_row<K>> rows;

  step_arrays(const char* function, const py::list& grads, const step_part& part) {
    rows.reserve(part.size());
    for (std::ptrdiff_t i = 0; i < part.size(); ++i) {
      const std::ptrdiff_t number = part.member(i);
      std::array<PyObject*, K> items{PyList_GET_ITEM(part.params, i),
                                     PyList_GET_ITEM(grads.ptr(), number)};
      for (std::size_t k = 2; k < K; ++k)
        items[k] = PyList_GET_ITEM(PyTuple_GET_ITEM(part.state, k - 2), i);
      rows.emplace_back(function, items, number);
    }
  }

  template <class F>
  void each(const F& f) const {
    for (const step_row<K>& row : rows) f(row.arrays[0], row.arrays[1], row.number);
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

// Updates all parts, of K arrays for each parameter, by make(part); first all of them are checked.
// False, and nothing is changed, where a gradient is None.
template <class F, std::size_t Options, std::size_t... K, class Make>
bool step(const char* function, const py::list& grads, const py::list& parts, const Make& make) {
  std::vector<std::pair<F, std::variant<step_arrays<K>...>>> all;
  all.reserve(parts.size());
  for (const py::handle object : parts) {
    if (!step_part::fits(object.ptr()))
      throw py::type_error(std::string(function) + ": a part of the step is malformed");
    const step_part part(object.ptr());
    const std::size_t states = PyTuple_GET_SIZE(part.state);
    if (!((states == K - 2 && part.fits(K - 2, Options, grads)) || ...))
      throw py::type_error(std::string(function) + ": a part of the step is malformed");
    for (std::ptrdiff_t i = 0; i < part.size(); ++i)
      if (PyList_GET_ITEM(grads.ptr(), part.member(i)) == Py_None) return false;
    (void)((states == K - 2 &&
            (all.emplace_back(make(part), step_arrays<K>(function, grads, part)), true)) ||
           ...);
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  require_apart(function, [&](const auto& f) {
    for (const auto& [update, arrays] : all)
      std::visit([&](const auto& own) { own.each(f); }, arrays);
  });
  for (const auto& [update, arrays] : all)
    std::visit([&update = update](const auto& own) { own.update(update); }, arrays);
  return true;
}

bool sgd_step(const py::list& grads, const py::list& parts) {
  return step<sgd, 7, 2, 3>("SGD.step", grads, parts, [](const step_part& p) {
    return sgd{p.number(0), p.number(1), p.number(2), p.number(3),
               p.number(4), p.flag(5),   p.flag(6),   p.fresh()};
  });
}

bool adam_step(const py::list& grads, const py::list& parts) {
  return step<adam, 9, 4, 5>("Adam.step", grads, parts, [](const step_part& p) {
    adam update{p.number(0), p.number(1), p.number(2), p.number(3), p.number(4),
                p.number(5), p.number(6), p.flag(7),   p.flag(8)};
    update.at_step(p.steps() + 1);
    return update;
  });
}

// The gradients as arrays, checked against their parameters; None stays.
py::list check_gradients(const char* function, const py::list& params, const py::list& grads) {
  if (params.size() != grads.size())
    throw py::value_error(std::string(function) + ": params and grads differ in length");
  std::vector<step_row<2>> rows;
  rows.reserve(grads.size());
  py::list checked(grads.size());
  for (std::size_t i = 0; i < grads.size(); ++i) {
    checked[i] = py::none();
    if (grads[i].is_none()) continue;
    rows.emplace_back(function, std::array<PyObject*, 2>{params[i].ptr(), grads[i].ptr()},
                      std::ptrdiff_t(i));
    checked[i] = rows.back().arrays[1];
  }
  require_apart(function, [&](const auto& f) {
    for (const auto& row : rows) f(row.arrays[0], row.arrays[1], row.number);
  });
  return checked;
}

// The gradients to be clipped: of those that are one array, such as a matrix and its transposed
// one, the first.
std::vector<std::pair<py::array, kind>> distinct_gradients(const char* function,
                                                           const py::list& grads) {
  struct given {
    py::array array;
    kind type;
    const char *low, *high;
    bool fills;  // all addresses between are its own
    std::size_t number;
  };
  std::vector<given> all;
  array_spans spans;
  all.reserve(grads.size()), spans.reserve(grads.size());
  for (std::size_t i = 0; i < grads.size(); ++i) {
    if (grads[i].is_none()) continue;
    const argument arg{function, "grads", std::ptrdiff_t(i)};
    kind type;
    const py::array a = float_array(grads[i], arg, type);
    const char *low, *high;
    extent(a, low, high);
    spans.add(low, high, std::ptrdiff_t(all.size()));
    all.push_back(
        {writeable_array(a, arg, a, "itself"), type, low, high, high - low == a.nbytes(), i});
  }
  spans.order();
  std::vector<bool> is_new(all.size(), true);
  if (!spans.are_apart())
    spans.each_meeting(spans, [&](std::ptrdiff_t i, std::ptrdiff_t j) {
      const given &own = all[i], &other = all[j];
      if (j >= i || own.array.size() == 0) return;
      const bool both_fill =
          own.fills && other.fills && own.low == other.low && own.high == other.high;
      if (own.type == other.type && (both_fill || same_memory(own.array, other.array)))
        is_new[i] = false;
      else if (overlap(own.array, other.array))
        throw py::value_error(argument{function, "grads", std::ptrdiff_t(own.number)}.text() +
                              " shares a part of its memory with grads[" +
                              std::to_string(other.number) + "]");
    });
  std::vector<std::pair<py::array, kind>> distinct;
  distinct.reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    if (is_new[i]) distinct.emplace_back(std::move(all[i].array), all[i].type);
  return distinct;
}

double clip_grad_norm(const py::list& grads, double max_norm, double norm_type,
                      bool error_if_nonfinite) {
  const char* function = "clip_grad_norm";
  const auto arrays = distinct_gradients(function, grads);
  const auto scale_all = [&](double by) {
    for (const auto& [g, k] : arrays) {
      auto views = elementwise_views<2>({&g, &g});
      dispatch(k, [&](auto type) {
        using T = decltype(type);
        without_gil released;
        const auto scaled = [&](vec<T> x) { return x * vec<T>(T(by)); };
        map_arrays<T>([&](T* to, auto n, auto ahead,
                          auto from) { map_run<T>(scaled, to, n, ahead, from[0]); },
                      views, 0.1);
      });
    }
  };
  std::vector<std::pair<const py::array*, bool>> elements;
  for (const auto& [g, k] : arrays) elements.emplace_back(&g, k == kind::float64);
  scaled_norm norm;
  {
    without_gil released;
    norm = norm_of(
        std::ptrdiff_t(elements.size()),
        [&](std::ptrdiff_t i) {
          return float_view{view_of(*elements[i].first), elements[i].second};
        },
        norm_type, parallel_for);
  }
  if (error_if_nonfinite && !std::isfinite(norm.value()))
    throw std::runtime_error(std::string(function) + ": the norm of the gradients is " +
                             (std::isnan(norm.value()) ? "nan" : "inf") +
                             ", so they cannot be clipped; nothing was changed");
  // A NaN norm makes the gradients NaN, as in PyTorch.
  double factor = norm.limited_to(max_norm);
  if (factor >= 1) return norm.value();
  // In float a factor of 1e-40 would not be one.
  for (; factor > 0 && factor < 0x1p-100; factor *= 0x1p64) scale_all(0x1p-64);
  scale_all(factor);
  return norm.value();
}

}  // namespace

void bind_optimizers(py::module_& m) {
  using py::arg;
  define_fast(m, "sgd_step", sgd_step);
  define_fast(m, "adam_step", adam_step);
  m.def("check_gradients", check_gradients, arg("function"), arg("params"), arg("grads"));
  m.def("clip_grad_norm", clip_grad_norm, arg("grads"), arg("max_norm"), arg("norm_type"),
        arg("error_if_nonfinite"));
}

}  // namespace dlcore
