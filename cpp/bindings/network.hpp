// Networks and their training steps as Python sees them: described by tuples, checked by the Python
// package, which alone makes them.
#pragma once

#include <chrono>
#include <string>
#include <variant>

#include "bindings/arrays.hpp"
#include "network/training_step.hpp"

namespace dlcore {

// ---- descriptions -------------------------------------------------------------------------------

// Once for all types: there are many calls.
[[gnu::noinline]] inline void* data_of(const py::handle& object) {
  if (object.is_none()) return nullptr;
  return const_cast<void*>(py::reinterpret_borrow<py::array>(object).data());
}
template <class T>
inline T* data_of(const py::handle& object) {
  return static_cast<T*>(data_of(object));
}
[[gnu::noinline]] inline double number_of(const py::object& object) {
  return object.cast<double>();
}
[[gnu::noinline]] inline std::int64_t integer_of(const py::object& object) {
  return object.cast<std::int64_t>();
}

[[gnu::noinline]] inline py::object item(const py::dict& of, const char* name) { return of[name]; }
[[gnu::noinline]] inline py::object item(const py::tuple& of, std::size_t i) { return of[i]; }

template <class T>
using layer_pointer = std::unique_ptr<layer<T>>;

// The name, the width of the input, and the arrays and options that follow.
template <class T>
inline layer_pointer<T> make_layer(const py::tuple& spec) {
  const auto name = spec[0].cast<std::string>();
  const std::ptrdiff_t in = integer_of(item(spec, 1));
  const auto option = [&](std::size_t i) { return number_of(item(spec, 2 + i)); };
  if (name == "linear")
    return std::make_unique<linear_layer<T>>(in, integer_of(item(spec, 2)),
                                             data_of<T>(item(spec, 3)), data_of<T>(item(spec, 4)),
                                             number_of(item(spec, 5)));
  if (name == "dropout")
    return std::make_unique<dropout_layer<T>>(in, option(0),
                                              std::uint64_t(integer_of(item(spec, 3))));
  if (name == "layer_norm")
    return std::make_unique<layer_norm_layer<T>>(
        in, data_of<T>(item(spec, 2)), data_of<T>(item(spec, 3)), number_of(item(spec, 4)));
  if (name == "batch_norm")
    return std::make_unique<batch_norm_layer<T>>(
        in, data_of<T>(item(spec, 2)), data_of<T>(item(spec, 3)), number_of(item(spec, 4)),
        number_of(item(spec, 5)), data_of<T>(item(spec, 6)), data_of<T>(item(spec, 7)),
        data_of<std::int64_t>(item(spec, 8)), integer_of(item(spec, 9)) != 0);
  activation_spec activation{};
  if (find_activation(name.c_str(), activation.kind)) {
    for (std::size_t i = 0; i < info(activation.kind).option_count(); ++i)
      activation.options[i] = option(i);
    return std::make_unique<activation_layer<T>>(in, activation);
  }
  throw py::value_error("unknown layer " + name);
}

template <class T>
inline std::vector<T> values_of(const py::handle& object) {
  if (object.is_none()) return {};
  const auto a = py::reinterpret_borrow<py::array>(object);
  return std::vector<T>(static_cast<const T*>(a.data()),
                        static_cast<const T*>(a.data()) + a.size());
}

// (name, width, options...), as loss objects give them; None: the caller's own.
template <class T>
inline std::unique_ptr<block_loss<T>> make_loss(const py::object& object) {
  if (object.is_none()) return nullptr;
  const py::tuple spec(object);
  const auto name = spec[0].cast<std::string>();
  const std::ptrdiff_t width = integer_of(item(spec, 1));
  if (name == "focal")
    return std::make_unique<focal_loss<T>>(make_loss<T>(item(spec, 2)), width,
                                           number_of(item(spec, 3)));
  if (name == "joint") {
    std::vector<typename joint_loss<T>::part> parts;
    for (const py::handle object : py::tuple(spec[2])) {
      const auto part = py::reinterpret_borrow<py::tuple>(object);
      const py::tuple loss(part[0]);
      parts.push_back({make_loss<T>(loss), integer_of(item(loss, 1)), integer_of(item(part, 1)),
                       number_of(item(part, 2))});
    }
    return std::make_unique<joint_loss<T>>(std::move(parts), width);
  }
  if (name == "cross_entropy")
    return std::make_unique<cross_entropy_loss<T>>(
        width, integer_of(item(spec, 2)) != 0, values_of<T>(item(spec, 3)),
        integer_of(item(spec, 4)), number_of(item(spec, 5)));
  loss_spec loss{};
  if (find_loss(name.c_str(), loss.kind)) {
    if (loss.kind == loss_kind::binary_cross_entropy_with_logits && !spec[2].is_none())
      loss.kind = loss_kind::binary_cross_entropy_with_logits_and_pos_weight;
    if (info(loss.kind).option_count() > 0) loss.options[0] = number_of(item(spec, 2));
    const bool further = info(loss.kind).further;
    return std::make_unique<value_loss<T>>(
        width, loss, further ? values_of<T>(item(spec, 2)) : std::vector<T>());
  }
  throw py::value_error("unknown loss " + name);
}

// ("sgd", first, lr, ...) or ("adam", number of the last step, lr, ...), as their steps take them,
// and the penalty.
inline update_rule::group make_group(const py::tuple& spec) {
  const auto number = [&](std::size_t i) { return number_of(item(spec, i)); };
  const auto flag = [&](std::size_t i) { return integer_of(item(spec, i)) != 0; };
  if (spec[0].cast<std::string>() == "sgd")
    return {sgd{number(2), number(3), number(4), number(5), number(8), flag(6), flag(7), flag(1)},
            number(9)};
  const double decay = number(6);
  return {adam{number(2), number(3), number(4), number(5), flag(7) ? 0 : decay, flag(7) ? decay : 0,
               number(9), flag(8), flag(10)},
          number(11)};
}

template <class T>
inline row_source<T> source_of(const py::array& a) {
  return {static_cast<const char*>(a.data()), a.strides(0),
          a.ndim() > 1 ? a.strides(1) : std::ptrdiff_t(sizeof(T)), a.ndim() > 1 ? a.shape(1) : 1};
}
// Rows of an array, or of (data, indices, indptr, columns).
template <class T>
inline row_source<T> rows_of_matrix(const py::object& x) {
  if (!py::isinstance<py::tuple>(x)) return source_of<T>(py::reinterpret_borrow<py::array>(x));
  const auto parts = py::reinterpret_borrow<py::tuple>(x);
  const auto array = [&](std::size_t i) { return py::reinterpret_borrow<py::array>(parts[i]); };
  const compressed_rows rows{array(2).data(), array(1).data(), array(1).itemsize() == 8};
  return {static_cast<const char*>(array(0).data()), 0, sizeof(T), integer_of(item(parts, 3)),
          rows};
}

// ---- normalisation by itself --------------------------------------------------------------------

// Of the layer that is described, over matrices in rows without gaps.
inline void normalize_rows(bool is_double, const py::tuple& spec, const py::array& x,
                           const py::array& y) {
  dispatch(is_double ? kind::float64 : kind::float32, [&](auto type) {
    using T = decltype(type);
    const layer_pointer<T> l = make_layer<T>(spec);
    const rows_of<const T> from{data_of<T>(x), l->in};
    const rows_of<T> to{data_of<T>(y), l->in};
    const std::ptrdiff_t rows = x.shape(0);
    without_gil released;
    normalize<T>(*l, from, to, rows);
  });
}
// `grads`: for the gradients of the layer's parameters.
inline void normalize_rows_backward(bool is_double, const py::tuple& spec, const py::array& dy,
                                    const py::array& x, const py::array& dx,
                                    const py::list& grads) {
  dispatch(is_double ? kind::float64 : kind::float32, [&](auto type) {
    using T = decltype(type);
    const layer_pointer<T> l = make_layer<T>(spec);
    const auto parameters = l->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i)
      parameters[i]->gradient = data_of<T>(grads[i]);
    const rows_of<const T> from{data_of<T>(x), l->in}, slopes{data_of<T>(dy), l->in};
    const rows_of<T> to{data_of<T>(dx), l->in};
    const std::ptrdiff_t rows = x.shape(0);
    without_gil released;
    normalize_backward<T>(*l, slopes, from, to, rows);
  });
}

// ---- a run of steps -----------------------------------------------------------------------------

// What Python asks of a run, read once for all types.
struct job {
  struct parameter {
    std::size_t layer, place, group;
    void *average, *state[3];
  };
  py::object x, y;
  std::optional<index_view> labels;
  std::vector<parameter> trained;
  update_rule rule;
  double step, max_norm;  // the number of the last step
  const std::int64_t* rows;
  std::ptrdiff_t n, batches, batch_size, accumulate, loss_count;
  const double *masses, *shares, *weights;
  // Of each update a rate for each group, and of each batch a factor for each loss; or null.
  const double *rates, *factors;
  std::uint64_t key;
  void* seen;
  double *losses, *squares;
  std::int64_t* done;
  std::chrono::duration<double> slice;
  py::function between;

  explicit job(const py::dict& given) : x(given["x"]), y(given["y"]), between(given["between"]) {
    const auto get = [&](const char* name) { return item(given, name); };
    const auto array = [&](const char* name) { return py::array(get(name)); };
    const auto numbers = [&](const char* name) { return data_of<double>(get(name)); };
    if (const py::array targets(y); is_integer(targets))
      labels = index_view_of(targets, {"fit", "y"});
    rule = {{}, 0, number_of(get("clip_value")), number_of(get("decay"))};
    for (const py::handle object : py::list(get("trained"))) {
      const auto spec = py::reinterpret_borrow<py::tuple>(object);
      const auto index = [&](std::size_t i) { return std::size_t(integer_of(item(spec, i))); };
      parameter p{index(0), index(1), index(2), data_of(item(spec, 3)), {}};
      rule.states = int(spec.size()) - 4;
      for (int i = 0; i < rule.states; ++i) p.state[i] = data_of(item(spec, 4 + i));
      trained.push_back(p);
    }
    const py::list rules(get("rules"));
    for (const py::handle spec : rules)
      rule.groups.push_back(make_group(py::reinterpret_borrow<py::tuple>(spec)));
    step = number_of(item(py::tuple(rules[0]), 1));
    max_norm = number_of(get("max_norm"));
    rows = data_of<std::int64_t>(get("order"));
    n = array("order").size(), batches = array("masses").size();
    batch_size = integer_of(get("batch_size")), accumulate = integer_of(get("accumulate"));
    masses = numbers("masses"), shares = numbers("shares"), weights = numbers("weight");
    rates = numbers("lrs"), factors = numbers("factors");
    loss_count = factors ? array("factors").shape(1) : 0;
    key = get("key").cast<std::uint64_t>();
    seen = data_of(get("seen"));
    losses = numbers("losses"), squares = numbers("squares");
    done = data_of<std::int64_t>(get("done"));
    slice = std::chrono::duration<double>(number_of(get("seconds")));
  }
};

// ---- classes ------------------------------------------------------------------------------------

template <class T>
struct network_of {
  network<T> net;

  explicit network_of(const py::list& specs) {
    for (const py::handle spec : specs)
      net.layers.push_back(make_layer<T>(py::reinterpret_borrow<py::tuple>(spec)));
    net.fuse();
  }
};

// For inference.
class py_network {
 public:
  py_network(bool is_double, const py::list& layers)
      : ndarray_(py::module_::import("numpy").attr("ndarray")),
        dtype_(is_double ? py::dtype::of<double>() : py::dtype::of<float>()) {
    if (is_double) net_ = std::make_unique<network_of<double>>(layers);
    else net_ = std::make_unique<network_of<float>>(layers);
  }

  // The outputs, in a new array, for one as it should be: of the network's dtype and width, rows
  // contiguous, `finite`: without NaN and infinities. None for anything else. One call: for a
  // single row checks in Python take longer than all the rest.
  py::object infer(const py::object& x, bool finite) {
    if (reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())) != ndarray_.ptr()) return py::none();
    const auto a = py::reinterpret_borrow<py::array>(x);
    return std::visit([&](auto& own) { return run(own->net, a, finite); }, net_);
  }

 private:
  py::object ndarray_;
  py::dtype dtype_;
  std::variant<std::unique_ptr<network_of<float>>, std::unique_ptr<network_of<double>>> net_;

  template <class T>
  py::object run(network<T>& net, const py::array& x, bool finite) const {
    const std::ptrdiff_t item = sizeof(T);
    const py::dtype dtype = x.dtype();
    if (!(dtype.is(dtype_) || dtype.equal(dtype_)) || x.ndim() != 2 || x.shape(1) != net.in())
      return py::none();
    if (x.size() > 0 && (x.strides(1) != item || x.strides(0) % item != 0 ||
                         reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) != 0))
      return py::none();
    const std::ptrdiff_t rows = x.shape(0);
    py::array out(dtype_, std::vector<py::ssize_t>{rows, net.out()});
    const rows_of<const T> from{static_cast<const T*>(x.data()), x.strides(0) / item};
    const rows_of<T> to{data_of<T>(out), net.out()};
    bool fine;
    {
      without_gil released;
      fine = net.infer(from, to, rows, finite);
    }
    return fine ? py::object(out) : py::none();
  }
};

template <class T>
class step_of : network_of<T> {
  using network_of<T>::net;

 public:
  // grads: for each layer a tuple of gradients or None, in the order of its parameters.
  step_of(const py::list& layers, const py::list& grads, std::ptrdiff_t batch,
          const py::object& loss, bool accumulate)
      : network_of<T>(layers) {
    for (std::size_t l = 0; l < net.layers.size(); ++l) {
      const py::tuple own(grads[l]);
      const auto parameters = net.layers[l]->parameters();
      for (std::size_t i = 0; i < parameters.size(); ++i)
        parameters[i]->gradient = data_of<T>(own[i]);
    }
    step_ = std::make_unique<training_step<T>>(net, batch, make_loss<T>(loss), accumulate);
  }

  void forward(const py::object& x, const py::array& rows, const py::array& out,
               std::uint64_t key) {
    const row_source<T> from = rows_of_matrix<T>(x);
    const auto* numbers = static_cast<const std::int64_t*>(rows.data());
    const std::ptrdiff_t n = rows.size();
    T* to = data_of<T>(out);
    without_gil released;
    net.prepare();
    step_->forward(from, numbers, n, key);
    copy(step_->outputs(), {to, net.out()}, n);
  }
  void backward(const py::array& slopes) {
    const T* from = data_of<T>(slopes);
    const std::ptrdiff_t n = slopes.shape(0);
    without_gil released;
    copy({const_cast<T*>(from), net.out()}, step_->output_slopes(), n);
    step_->backward(n);
  }
  void forget() { step_->forget(); }
  void undo() { step_->undo(); }

  // All batches of a job, until one goes wrong. Writes the `losses` of the batches, unless None
  // the `squares` of the parameters with a penalty before each, and to `done` the number of the
  // next batch and of the updates that were made. Returns what went wrong, or "". Every so many
  // `seconds` calls between(next batch); its exceptions end the run, after that batch.
  const char* run(job& of) {
    const row_source<T> from = rows_of_matrix<T>(of.x);
    const targets<T> target{of.labels ? &*of.labels : nullptr,
                            of.labels ? row_source<T>{} : source_of<T>(py::array(of.y))};
    std::vector<trained<T>> parameters;
    for (const job::parameter& p : of.trained) {
      const auto state = [&](int i) { return static_cast<T*>(p.state[i]); };
      parameters.push_back({net.layers[p.layer]->parameters()[p.place],
                            {state(0), state(1), state(2)},
                            p.group,
                            static_cast<T*>(p.average)});
    }
    T* outputs = static_cast<T*>(of.seen);
    std::ptrdiff_t updates = 0, i = 0;
    outcome result = outcome::fine;
    std::exception_ptr error;
    const auto call_between = [&] {
      py::gil_scoped_acquire acquired;
      try {
        of.between(i);
      } catch (...) {
        error = std::current_exception();
      }
    };
    {
      without_gil released;
      using clock = std::chrono::steady_clock;
      auto end = clock::now() + of.slice;
      step_->open(parameters, of.rule, of.max_norm, of.batches);
      while (i < of.batches && !error) {
        const std::ptrdiff_t begin = i * of.batch_size,
                             size = std::min(of.batch_size, of.n - begin);
        const batch_of_rows batch{of.rows + begin,
                                  size,
                                  of.masses[i],
                                  of.shares[i],
                                  (i + 1) % of.accumulate == 0 || i + 1 == of.batches,
                                  of.factors ? of.factors + i * of.loss_count : nullptr};
        if (of.rates) of.rule.set_rates(of.rates + updates * std::ptrdiff_t(of.rule.groups.size()));
        of.rule.next(of.step + 1, of.masses[i]);
        if (of.squares) of.squares[i] = step_->squares();
        const bool before = step_->pending();
        result = step_->run(from, target, of.weights, batch, of.rule, of.max_norm,
                            of.key + std::uint64_t(i) * 0x9e3779b97f4a7c15u, of.losses[i]);
        if (result != outcome::fine) break;
        if (outputs) copy(step_->outputs(), {outputs + begin * net.out(), net.out()}, size);
        if (batch.update && (before || batch.share > 0)) {
          ++of.step, ++updates;
          of.rule.after_first();
        }
        ++i;
        if (i < of.batches && clock::now() >= end) {
          call_between();
          end = clock::now() + of.slice;
        }
      }
      step_->close();
    }
    of.done[0] = i, of.done[1] = updates;
    if (error) std::rethrow_exception(error);
    constexpr const char* names[] = {"", "loss", "gradient", "parameters", "label"};
    return names[int(result)];
  }

 private:
  std::unique_ptr<training_step<T>> step_;

  void copy(rows_of<T> from, rows_of<T> to, std::ptrdiff_t n) const {
    for (std::ptrdiff_t r = 0; r < n; ++r)
      std::copy(from.row(r), from.row(r) + net.out(), to.row(r));
  }
};

class py_training_step {
 public:
  py_training_step(bool is_double, const py::list& layers, const py::list& grads,
                   std::ptrdiff_t batch, const py::object& loss, bool accumulate) {
    if (is_double)
      step_ = std::make_unique<step_of<double>>(layers, grads, batch, loss, accumulate);
    else step_ = std::make_unique<step_of<float>>(layers, grads, batch, loss, accumulate);
  }
  void forward(const py::object& x, const py::array& rows, const py::array& out,
               std::uint64_t key) {
    std::visit([&](auto& s) { s->forward(x, rows, out, key); }, step_);
  }
  void backward(const py::array& slopes) {
    std::visit([&](auto& s) { s->backward(slopes); }, step_);
  }
  void forget() {
    std::visit([&](auto& s) { s->forget(); }, step_);
  }
  void undo() {
    std::visit([&](auto& s) { s->undo(); }, step_);
  }
  const char* run(const py::dict& given) {
    job of(given);
    return std::visit([&](auto& s) { return s->run(of); }, step_);
  }

 private:
  std::variant<std::unique_ptr<step_of<float>>, std::unique_ptr<step_of<double>>> step_;
};

}  // namespace dlcore
