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
#include "kernels/gradient_norm.hpp"

namespace dlcore {

namespace {

template <std::size_t K, std::size_t... I>
std::array<py::array, K> no_arrays(std::index_sequence<I...>) {
  return {((void)I, no_array())...};
}

// What an array of a step is called in messages.
constexpr const char* step_names[] = {"params", "grads", "state", "state", "state"};

// A part of a step: parameters that one call of the kernel updates, by their numbers in the
// optimizer, with their state.
struct step_part {
  py::list members, params;
  py::tuple state;
  double steps;  // that were made before
  bool fresh;    // some of the state is used for the first time
  py::tuple values;

  explicit step_part(const py::tuple& part)
      : members(part[0]),
        params(part[1]),
        state(part[2]),
        steps(part[3].cast<double>()),
        fresh(part[4].cast<bool>()),
        values(part[5]) {}

  std::ptrdiff_t size() const { return std::ptrdiff_t(params.size()); }
  std::ptrdiff_t member(std::size_t i) const {
    return PyLong_AsSsize_t(PyList_GET_ITEM(members.ptr(), i));
  }
  // The values in their order, as C++'s initializer lists read them.
  class reader {
   public:
    explicit reader(const py::tuple& values) : values_(values) {}
    double number() { return PyFloat_AsDouble(PyTuple_GET_ITEM(values_.ptr(), next_++)); }
    bool flag() { return PyObject_IsTrue(PyTuple_GET_ITEM(values_.ptr(), next_++)) == 1; }

   private:
    const py::tuple& values_;
    Py_ssize_t next_ = 0;
  };
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
  const char *low, *high;

  explicit address_range(const py::array& a)
      : low(static_cast<const char*>(a.data())), high(low + a.nbytes()) {
    if (!has_flag(a, c_contiguous)) extent(a, low, high);
  }
  void include(const address_range& other) {
    low = std::min(low, other.low), high = std::max(high, other.high);
  }
};

// Parameters and their gradients, none of which may share memory with a parameter: it would be read
// after that was written, or before, as the threads come to it.
class apart {
 public:
  void reserve(std::size_t n) { pairs_.reserve(n); }
  void add(const py::array& p, const py::array& gradient, std::ptrdiff_t number) {
    pairs_.push_back({&p, &gradient, address_range(p), address_range(gradient), number});
  }
  void require(const char* function) const {
    if (pairs_.empty()) return;
    address_range params = pairs_[0].p_at, grads = pairs_[0].gradient_at;
    for (const pair& own : pairs_) params.include(own.p_at), grads.include(own.gradient_at);
    if (params.high <= grads.low || grads.high <= params.low) return;
    array_spans spans;
    spans.reserve(pairs_.size());
    for (std::size_t i = 0; i < pairs_.size(); ++i)
      spans.add(pairs_[i].p_at.low, pairs_[i].p_at.high, std::ptrdiff_t(i));
    spans.order();
    for (const pair& own : pairs_)
      spans.each_meeting(own.gradient_at.low, own.gradient_at.high, [&](std::ptrdiff_t i) {
        const pair& other = pairs_[i];
        if (!overlap(*own.gradient, *other.p)) return;
        const std::string called =
            &own == &other ? "its parameter" : "params[" + std::to_string(other.number) + "]";
        throw py::value_error(argument{function, "grads", own.number}.text() +
                              " shares memory with " + called);
      });
  }

 private:
  struct pair {
    const py::array *p, *gradient;
    address_range p_at, gradient_at;
    std::ptrdiff_t number;
  };
  std::vector<pair> pairs_;
};

// The arrays of a part of a step, checked: parameter, gradient, then the state.
template <std::size_t K>
struct step_arrays {
  std::vector<step_row<K>> rows;

  step_arrays(const char* function, const py::list& grads, const step_part& part) {
    rows.reserve(part.size());
    for (std::ptrdiff_t i = 0; i < part.size(); ++i) {
      const std::ptrdiff_t number = part.member(i);
      std::array<PyObject*, K> items{PyList_GET_ITEM(part.params.ptr(), i),
                                     PyList_GET_ITEM(grads.ptr(), number)};
      for (std::size_t k = 2; k < K; ++k)
        items[k] = PyList_GET_ITEM(PyTuple_GET_ITEM(part.state.ptr(), k - 2), i);
      rows.emplace_back(function, items, number);
    }
  }

  void add_to(apart& all) const {
    all.reserve(rows.size());
    for (const step_row<K>& row : rows) all.add(row.arrays[0], row.arrays[1], row.number);
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

// Whether a part is as the package makes it: what is read without a check is there.
bool fits(const step_part& part, const py::list& grads, std::size_t states) {
  if (part.members.size() != part.params.size() || part.state.size() != states) return false;
  for (const py::handle arrays : part.state)
    if (!PyList_Check(arrays.ptr()) || py::len(arrays) != part.params.size()) return false;
  for (std::ptrdiff_t i = 0; i < part.size(); ++i)
    if (part.member(i) < 0 || part.member(i) >= std::ptrdiff_t(grads.size())) return false;
  return true;
}

// Updates all parts, of K arrays for each parameter, by make(part); first all of them are checked.
// False, and nothing is changed, where a gradient is None.
template <class F, std::size_t... K, class Make>
bool step(const char* function, const py::list& grads, const py::list& parts, const Make& make) {
  std::vector<std::pair<F, std::variant<step_arrays<K>...>>> all;
  all.reserve(parts.size());
  for (const py::handle object : parts) {
    const step_part part(py::reinterpret_borrow<py::tuple>(object));
    const std::size_t arrays = 2 + part.state.size();
    if (!((arrays == K && fits(part, grads, K - 2)) || ...))
      throw py::type_error(std::string(function) + ": a part of the step is malformed");
    for (std::ptrdiff_t i = 0; i < part.size(); ++i)
      if (PyList_GET_ITEM(grads.ptr(), part.member(i)) == Py_None) return false;
    (void)((arrays == K &&
            (all.emplace_back(make(part), step_arrays<K>(function, grads, part)), true)) ||
           ...);
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  apart pairs;
  for (const auto& [update, arrays] : all)
    std::visit([&](const auto& a) { a.add_to(pairs); }, arrays);
  pairs.require(function);
  for (const auto& [update, arrays] : all)
    std::visit([&update = update](const auto& a) { a.update(update); }, arrays);
  return true;
}

bool sgd_step(const py::list& grads, const py::list& parts) {
  return step<sgd, 2, 3>("SGD.step", grads, parts, [](const step_part& part) {
    step_part::reader r(part.values);
    return sgd{r.number(), r.number(), r.number(), r.number(),
               r.number(), r.flag(),   r.flag(),   part.fresh};
  });
}

bool adam_step(const py::list& grads, const py::list& parts) {
  return step<adam, 4, 5>("Adam.step", grads, parts, [](const step_part& part) {
    step_part::reader r(part.values);
    adam update{r.number(), r.number(), r.number(), r.number(), r.number(),
                r.number(), r.number(), r.flag(),   r.flag()};
    update.at_step(part.steps + 1);
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
  apart pairs;
  for (const auto& row : rows) pairs.add(row.arrays[0], row.arrays[1], row.number);
  pairs.require(function);
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
  std::vector<std::pair<py::array, kind>> distinct;
  distinct.reserve(all.size());
  const bool are_apart = spans.are_apart();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const given& own = all[i];
    bool is_new = true;
    if (!are_apart)
      spans.each_meeting(own.low, own.high, [&](std::ptrdiff_t j) {
        const given& other = all[j];
        if (j >= std::ptrdiff_t(i) || own.array.size() == 0) return;
        const bool is_same =
            own.type == other.type &&
            ((own.fills && other.fills && own.low == other.low && own.high == other.high) ||
             same_memory(own.array, other.array));
        if (is_same) is_new = false;
        else if (overlap(own.array, other.array))
          throw py::value_error(argument{function, "grads", std::ptrdiff_t(own.number)}.text() +
                                " shares a part of its memory with grads[" +
                                std::to_string(other.number) + "]");
      });
    if (is_new) distinct.emplace_back(own.array, own.type);
  }
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
  m.def("sgd_step", sgd_step, arg("grads"), arg("parts"));
  m.def("adam_step", adam_step, arg("grads"), arg("parts"));
  m.def("check_gradients", check_gradients, arg("function"), arg("params"), arg("grads"));
  m.def("clip_grad_norm", clip_grad_norm, arg("grads"), arg("max_norm"), arg("norm_type"),
        arg("error_if_nonfinite"));
}

}  // namespace dlcore
