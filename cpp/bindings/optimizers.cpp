#include "kernels/optimizers.hpp"

#include <cmath>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "bindings/elementwise.hpp"
#include "kernels/reductions.hpp"

namespace dlcore {

namespace {

template <std::size_t K, std::size_t... I>
std::array<py::array, K> no_arrays(std::index_sequence<I...>) {
  return {((void)I, no_array())...};
}

// What an array of a step is called in messages.
constexpr const char* step_names[] = {"params", "grads", "state", "state", "state"};

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

void sgd_step(const py::list& params, const py::list& grads, const py::object& buffers, bool first,
              double lr, double momentum, double dampening, double weight_decay, bool nesterov,
              bool maximize, double l1) {
  const sgd update{lr, momentum, dampening, weight_decay, l1, nesterov, maximize, first};
  if (buffers.is_none()) step_arrays<2>("SGD.step", {params, grads}).update(update);
  else step_arrays<3>("SGD.step", {params, grads, py::list(buffers)}).update(update);
}

void adam_step(const py::list& params, const py::list& grads, const py::list& exp_avgs,
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

double clip_grad_norm(const py::list& grads, double max_norm) {
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
      squares += sum_of_squares<decltype(type)>({v}, parallel_for);
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

}  // namespace

void bind_optimizers(py::module_& m) {
  using py::arg;
  m.def("sgd_step", sgd_step, arg("params"), arg("grads"), arg("buffers"), arg("first"), arg("lr"),
        arg("momentum"), arg("dampening"), arg("weight_decay"), arg("nesterov"), arg("maximize"),
        arg("l1"));
  m.def("adam_step", adam_step, arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"),
        arg("max_exp_avg_sqs"), arg("step"), arg("lr"), arg("beta1"), arg("beta2"), arg("eps"),
        arg("weight_decay"), arg("decoupled"), arg("maximize"), arg("l1"));
  m.def("clip_grad_norm", clip_grad_norm, arg("grads"), arg("max_norm"));
}

}  // namespace dlcore
