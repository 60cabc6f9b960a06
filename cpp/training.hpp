// A training step: gather the rows of a batch, forward, loss, backward, update. Mini-batch after
// mini-batch without leaving C++.
//
// A step has two parallel regions. In the first each block of rows goes forward, through the loss
// and back; in the second each part of the parameters sums its gradient over the batch and is
// updated while the caches hold it. Where the update needs all gradients first (a limit on their
// norm), it is a third one. Blocks, parts and sums depend on the shapes alone, so the bits do, too.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <variant>
#include <vector>

#include "losses.hpp"
#include "norm_layers.hpp"
#include "optimizers.hpp"

namespace dlcore {

// ---- data ---------------------------------------------------------------------------------------

// Rows of a matrix of any layout, gathered by their numbers.
template <class T>
struct row_source {
  const char* data;
  std::ptrdiff_t row_stride, column_stride, width;  // strides in bytes

  void gather(const std::int64_t* rows, std::ptrdiff_t n, rows_of<T> to) const {
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      const char* from = data + rows[r] * row_stride;
      if (column_stride == sizeof(T)) {
        std::memcpy(to.row(r), from, width * sizeof(T));
      } else {
        for (std::ptrdiff_t c = 0; c < width; ++c)
          std::memcpy(to.row(r) + c, from + c * column_stride, sizeof(T));
      }
    }
  }
};

// What the outputs of a data set should be: class indices, or values.
template <class T>
struct targets {
  const index_view* labels;  // null: values
  row_source<T> values;
};

// ---- losses -------------------------------------------------------------------------------------

// The targets of a block of rows.
template <class T>
struct block_of_targets {
  const std::int64_t* labels;
  const T* values;
};

template <class T>
class block_loss {
 public:
  virtual ~block_loss() = default;
  // Targets are class indices.
  virtual bool takes_labels() const { return false; }
  // The sum of the losses of n rows, or in `losses` each of them (`values_of_row` for a row); the
  // gradient, times scale.
  virtual double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
                     double scale, T* losses, rows_of<T> gradient) const = 0;
  // Losses of a row, whose mean is the loss of the row.
  virtual std::ptrdiff_t values_of_row() const { return 1; }
  // The first row whose label is out of range, or -1.
  virtual std::ptrdiff_t bad_label(const std::int64_t*, std::ptrdiff_t) const { return -1; }
};

template <class T>
inline view view_of_rows(const T* first, std::ptrdiff_t n, std::ptrdiff_t width,
                         std::ptrdiff_t step) {
  view v;
  v.data = reinterpret_cast<char*>(const_cast<T*>(first));
  v.ndim = 2;
  v.shape[0] = n, v.shape[1] = width;
  v.strides[0] = step * std::ptrdiff_t(sizeof(T)), v.strides[1] = sizeof(T);
  return v;
}
template <class T>
inline row_view row_view_of_rows(const T* first, std::ptrdiff_t n, std::ptrdiff_t step) {
  row_view v;
  v.class_stride = sizeof(T);
  v.rows.data = reinterpret_cast<char*>(const_cast<T*>(first));
  v.rows.ndim = 1;
  v.rows.shape[0] = n;
  v.rows.strides[0] = step * std::ptrdiff_t(sizeof(T));
  return v;
}
template <class T>
inline view view_of_run(T* first, std::ptrdiff_t n) {
  view v;
  v.data = reinterpret_cast<char*>(first);
  v.ndim = 1;
  v.shape[0] = n;
  v.strides[0] = sizeof(T);
  return v;
}

template <class T>
class cross_entropy_loss : public block_loss<T> {
 public:
  cross_entropy_loss(std::ptrdiff_t classes, bool labels, std::vector<T> weight,
                     std::ptrdiff_t ignore_index, double label_smoothing)
      : classes_(classes),
        labels_(labels),
        weight_(std::move(weight)),
        options_{weight_.empty() ? nullptr : weight_.data(), double(classes), label_smoothing,
                 ignore_index, 1.0} {
    if (!weight_.empty()) {
      std::vector<double> wide(weight_.begin(), weight_.end());
      options_.weight_sum = tree_sum(wide.data(), std::ptrdiff_t(wide.size()));
    }
  }
  bool takes_labels() const override { return labels_; }
  std::ptrdiff_t bad_label(const std::int64_t* labels, std::ptrdiff_t n) const override {
    if (!labels_) return -1;
    for (std::ptrdiff_t i = 0; i < n; ++i)
      if (labels[i] != options_.ignore_index && std::uint64_t(labels[i]) >= std::uint64_t(classes_))
        return i;
    return -1;
  }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    row_loss_options<T> options = options_;
    options.scale = scale;
    loss_sink<T> sink{losses ? view_of_run(losses, n) : view(), {}};
    const row_shape shape{n, classes_, true};
    const row_view x = row_view_of_rows(outputs.first, n, outputs.step);
    const row_view dx = row_view_of_rows(gradient.first, n, gradient.step);
    if (!labels_) {
      const std::array<row_view, 3> views{x, row_view_of_rows(target.values, n, classes_), dx};
      return row_loss<T>(shape, views, 2.0, cross_entropy_probabilities<T, true>{options, sink});
    }
    index_view labels;
    labels.rows = view_of_run(const_cast<std::int64_t*>(target.labels), n);
    const std::array<row_view, 2> views{x, dx};
    if (options.label_smoothing != 0)
      return row_loss<T>(shape, views, 1.0,
                         cross_entropy_indices<T, true, true>{labels, options, sink});
    return row_loss<T>(shape, views, 0.8,
                       cross_entropy_indices<T, true, false>{labels, options, sink});
  }

 private:
  std::ptrdiff_t classes_;
  bool labels_;
  std::vector<T> weight_;
  row_loss_options<T> options_;
};

// An elementwise loss; `extra`: a further input of the kernel for each column, or none.
template <class T, class F>
class value_loss : public block_loss<T> {
 public:
  value_loss(std::ptrdiff_t width, const F& f, std::vector<T> extra = {})
      : width_(width), f_(f), extra_(std::move(extra)) {}
  std::ptrdiff_t values_of_row() const override { return width_; }

  double run(rows_of<const T> outputs, const block_of_targets<T>& target, std::ptrdiff_t n,
             double scale, T* losses, rows_of<T> gradient) const override {
    const view x = view_of_rows(outputs.first, n, width_, outputs.step);
    const view t = view_of_rows(target.values, n, width_, width_);
    view to = losses ? view_of_rows<T>(losses, n, width_, width_) : view();
    view dx = view_of_rows<T>(gradient.first, n, width_, gradient.step);
    if constexpr (std::is_same_v<F, binary_cross_entropy_with_logits<true>>) {
      view extra = view_of_rows(extra_.data(), n, width_, 0);
      std::array<view, 3> inputs{x, t, extra};
      return elementwise_loss<T>(f_, inputs, to, dx, scale);
    } else {
      std::array<view, 2> inputs{x, t};
      return elementwise_loss<T>(f_, inputs, to, dx, scale);
    }
  }

 private:
  std::ptrdiff_t width_;
  F f_;
  std::vector<T> extra_;
};

// ---- the update ---------------------------------------------------------------------------------

// One parameter that is trained, with its state.
template <class T>
struct trained {
  tensor<T>* of;
  std::array<T*, 3> state;
};

class update_rule {
 public:
  std::variant<sgd, adam> rule;
  int states;  // arrays of state for each parameter

  update_rule(std::variant<sgd, adam> rule, int states) : rule(rule), states(states) {}
  // Rules of further steps: `first` and the step's number are all that changes.
  void next(double number) {
    if (auto* a = std::get_if<adam>(&rule)) a->at_step(number);
  }
  void after_first() {
    if (auto* s = std::get_if<sgd>(&rule)) s->first = false;
  }
  // Updates elements with the gradients from `gradient` on.
  template <class T>
  void apply(const trained<T>& p, T* gradient, std::ptrdiff_t begin, std::ptrdiff_t end) const {
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, gradient, state + begin...};
      update_run<T>(f, arrays, end - begin, 0, std::make_index_sequence<2 + sizeof...(state)>());
    };
    with_state(p, on);
  }
  // Given the largest absolute values of the gradient, of the first state and of the parameters:
  // the largest that they can be after a step.
  void bound(double& gradient, double& state, double& parameter) const {
    if (const auto* s = std::get_if<sgd>(&rule)) {
      gradient += s->weight_decay * parameter;
      state = s->momentum * state + (1 + std::abs(s->dampening)) * gradient;
      parameter += s->lr * (gradient + (1 + s->momentum) * state);
    } else {
      const adam& a = std::get<adam>(rule);
      if (!a.decoupled) gradient += a.weight_decay * parameter;
      state = std::max(state, gradient);  // a mean of gradients
      if (a.decoupled) parameter *= std::max(1.0, std::abs(1 - a.lr * a.weight_decay));
      parameter += a.step_size * state / a.eps;
    }
    parameter *= 1.001;  // and rounding
  }
  // Updates elements, whose gradients count `factor` times, and keeps their values in `before`.
  // Whether the new ones are finite.
  template <class T>
  bool apply(const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end, T factor,
             T* before) const {
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, p.of->gradient + begin, state + begin...};
      return guarded_update(f, arrays, end - begin, factor, before,
                            std::make_index_sequence<2 + sizeof...(state)>());
    };
    return with_state(p, on);
  }

 private:
  // f(rule, arrays of state...)
  template <class T, class F>
  auto with_state(const trained<T>& p, const F& f) const {
    if (const auto* s = std::get_if<sgd>(&rule)) return states ? f(*s, p.state[0]) : f(*s);
    const adam& a = std::get<adam>(rule);
    return states > 2 ? f(a, p.state[0], p.state[1], p.state[2]) : f(a, p.state[0], p.state[1]);
  }

  template <class T, class F, std::size_t... I>
  static bool guarded_update(const F& options, T* const (&arrays)[sizeof...(I)], std::ptrdiff_t n,
                             T factor, T* before, std::index_sequence<I...>) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    const F f = options;  // copied as in update_run
    T* const p[] = {arrays[I]...};
    const vec<T> zero = T(0), scale = factor;
    vec<T> sum = zero;  // of p - p: 0, or NaN
    std::ptrdiff_t i = 0;
    const auto step = [&](vec<T>(&x)[sizeof...(I)]) {
      x[1] *= scale;
      f(x[I]...);
      sum += x[0] - x[0];
    };
    for (; i + w <= n; i += w) {
      vec<T> x[] = {load<T>(p[I] + i)...};
      store<T>(before + i, x[0]);
      step(x);
      ((written(I) ? store<T>(p[I] + i, x[I]) : void()), ...);
    }
    if (i < n) {
      vec<T> x[] = {load_part<T>(p[I] + i, n - i)...};
      store_part<T>(before + i, x[0], n - i);
      step(x);
      ((written(I) ? store_part<T>(p[I] + i, x[I], n - i) : void()), ...);
    }
    return !any(sum != zero);
  }
};

template <class T>
inline bool all_finite(const T* x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> zero = T(0);
  vec<T> sum = zero;  // of x - x: 0, or NaN
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) {
    const vec<T> v = load<T>(x + i);
    sum += v - v;
  }
  if (i < n) {
    const vec<T> v = load_part<T>(x + i, n - i);
    sum += v - v;
  }
  return !any(sum != zero);
}

// ---- the step -----------------------------------------------------------------------------------

enum class outcome { fine, loss, gradient, parameters, label };

// One mini-batch of a data set.
struct batch_of_rows {
  const std::int64_t* rows;  // their numbers
  std::ptrdiff_t n;
  double mass;   // the losses of the batch are divided by this
  double share;  // of the batch in its update; 0: it is passed over
  bool update;   // whether this batch completes an update
};

template <class T>
class training_step {
 public:
  // `before` has room for all parameters that are trained.
  training_step(network<T>& net, std::ptrdiff_t batch, std::unique_ptr<block_loss<T>> loss,
                bool accumulate)
      : net_(net), loss_(std::move(loss)), accumulate_(accumulate), parts_(net.parts()) {
    const auto room = [&](std::ptrdiff_t width) {
      memory_.emplace_back(new vec<T>[ceil_div(batch * row_step<T>(width), vec<T>::size)]());
      return rows_of<T>{reinterpret_cast<T*>(memory_.back().get()), row_step<T>(width)};
    };
    const std::size_t count = net.layers.size();
    values_.push_back(room(net.in()));
    for (std::size_t l = 0; l < count; ++l) {
      const bool over = net.layers[l]->over_input() && l > 0;
      values_.push_back(over ? values_.back() : room(net.layers[l]->out));
    }
    slopes_.resize(count + 1);
    slopes_[count] = room(net.out());
    bottom_ = count;
    for (std::size_t l = count; l-- > 0;)
      if (net.layers[l]->learns()) bottom_ = l;
    for (std::size_t l = count; l-- > bottom_ + 1;)
      slopes_[l] = net.layers[l]->in_place() ? slopes_[l + 1] : room(net.layers[l]->in);
    for (const auto& l : net.layers) l->reserve(batch);
    labels_.resize(loss_ && loss_->takes_labels() ? batch : 0);
    target_values_.resize(loss_ && !loss_->takes_labels() ? batch * net.out() : 0);
    std::ptrdiff_t trained_size = 0;
    for (const auto& l : net.layers)
      for (tensor<T>* p : l->parameters())
        if (p->gradient) offsets_.emplace_back(p, trained_size), trained_size += p->size;
    before_.resize(trained_size);
    direct_ = !accumulate;
    for (const auto& l : net.layers)
      direct_ = direct_ && !l->of_batch() && (l->parameters().empty() || l->has_gradient_to());
  }

  rows_of<T> outputs() const { return values_.back(); }
  rows_of<T> output_slopes() const { return slopes_.back(); }

  void forward(const row_source<T>& x, const std::int64_t* rows, std::ptrdiff_t n,
               std::uint64_t key) {
    key_ = key;
    walk(n, [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
      x.gather(rows + begin, m, values_[0].from(begin));
    });
  }
  void backward(std::ptrdiff_t n) {
    walk_back(n);
    gradients(n);
  }

  // Learns from a batch. `weight`: of each row of the data set, or null. Unless the outcome is
  // fine, the parameters are as before.
  outcome run(const row_source<T>& x, const targets<T>& y, const double* weight,
              const batch_of_rows& batch, const std::vector<trained<T>>& parameters,
              const update_rule& rule, double max_norm, std::uint64_t key, double& loss) {
    const outcome result = learn(x, y, weight, batch, parameters, rule, max_norm, key, loss);
    if (result != outcome::fine) undo();
    return result;
  }
  // The caller may have changed the parameters or their state.
  void look_again() { bound_.known = false; }
  // What layers keep of the last batch is forgotten.
  void undo() {
    for (const auto& l : net_.layers) l->undo();
  }

  // Forgets gradients that wait for an update.
  void forget() { pending_ = false; }
  bool pending() const { return pending_; }

 private:
  outcome learn(const row_source<T>& x, const targets<T>& y, const double* weight,
                const batch_of_rows& batch, const std::vector<trained<T>>& parameters,
                const update_rule& rule, double max_norm, std::uint64_t key, double& loss) {
    const std::ptrdiff_t n = batch.n, block = block_of(n), blocks = ceil_div(n, block);
    std::atomic<bool> bad_label{false};
    key_ = key;
    sums_.assign(blocks, 0.0);
    if (direct_) sizes_.assign(blocks * std::ptrdiff_t(net_.layers.size()), {});
    if (direct_ && !bound_.known) measure_parameters(parameters);
    walk(
        n,
        [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
          x.gather(batch.rows + begin, m, values_[0].from(begin));
        },
        [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
          if (!(batch.share > 0)) return;
          if (!loss_block(y, weight, batch, begin, m, sums_[begin / block]))
            bad_label.store(true, std::memory_order_relaxed);
          else back_block(n, begin, m, net_.layers.size());
          if (direct_) measure(begin, m, begin / block);
        });
    loss = 0;
    if (bad_label.load()) return outcome::label;
    if (batch.share > 0) {
      loss = tree_sum(sums_.data(), blocks);
      if (!std::isfinite(loss)) return outcome::loss;
      if (turns_back()) walk_back(n, true);
    }
    if (batch.share > 0 && batch.update && !pending_ && max_norm <= 0 && direct_ &&
        stays_finite(rule, n)) {
      region(std::ptrdiff_t(parts_.size()), cost(n) + double(before_.size()) * 0.4,
             [&](std::ptrdiff_t i) { update_directly(parts_[i], parameters, rule, n); });
      return outcome::fine;
    }
    bound_.known = false;
    failed_.store(int(outcome::fine), std::memory_order_relaxed);
    if (batch.share > 0) gradients(n);
    if (!batch.update || !pending_) return outcome::fine;
    pending_ = false;
    // An update is made whole or not at all.
    if (failed_.load() != int(outcome::fine)) return outcome(failed_.load());
    const double factor = max_norm > 0 ? clip_factor(max_norm) : 1.0;
    if (!(factor > 0)) return outcome::gradient;  // their norm is not finite
    region(std::ptrdiff_t(parts_.size()), double(before_.size()) * 0.4,
           [&](std::ptrdiff_t i) { update(parts_[i], parameters, rule, factor); });
    if (failed_.load() != int(outcome::fine)) restore();
    return outcome(failed_.load());
  }

  // The gradients of all parameters, from the slopes of n rows.
  void gradients(std::ptrdiff_t n) {
    const bool sum = pending_ && accumulate_;
    region(std::ptrdiff_t(parts_.size()), net_.cost() * double(n),
           [&](std::ptrdiff_t i) { gradient(parts_[i], n, sum); });
    pending_ = true;
  }

  network<T>& net_;
  std::unique_ptr<block_loss<T>> loss_;
  bool accumulate_;
  bool pending_ = false;  // whether there are gradients that wait for an update
  std::vector<typename network<T>::part> parts_;
  std::vector<std::unique_ptr<vec<T>[]>> memory_;
  std::vector<rows_of<T>> values_, slopes_;  // of the input of each layer and of the outputs
  std::size_t bottom_;                       // the lowest layer that learns
  std::vector<std::int64_t> labels_;
  std::vector<T> target_values_;
  std::vector<T> before_;                                       // the parameters before the update
  std::vector<std::pair<tensor<T>*, std::ptrdiff_t>> offsets_;  // where they lie there
  std::vector<double> sums_;
  // Whether parts can be updated as soon as their gradient is there: where that can only give
  // finite parameters, by bounds on all that goes into them.
  bool direct_;
  struct size_of_layer {
    double x = 0, dy = 0;  // the largest absolute values in a block; inf for NaN
  };
  std::vector<size_of_layer> sizes_;  // by block and layer
  struct {
    bool known = false;
    double parameter = 0,
           state = 0;  // largest absolute values of parameters and of their first state
  } bound_;
  std::atomic<int> failed_{0};
  std::uint64_t key_ = 0;

  // Subnormal numbers count as 0 in a step.
  template <class F>
  static void region(std::ptrdiff_t chunks, double nanoseconds, const F& f) {
    parallel_for(chunks, nanoseconds, [&](std::ptrdiff_t i) {
      const flush_subnormals flushed;
      f(i);
    });
  }
  pass pass_of(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m) const {
    return {begin, m, n, true, key_};
  }
  rows_of<const T> read(const std::vector<rows_of<T>>& of, std::size_t l) const {
    return {of[l].first, of[l].step};
  }
  double cost(std::ptrdiff_t n) const { return net_.cost() * double(n); }
  template <class F>
  void each_block(std::ptrdiff_t n, double cost, const F& f) const {
    const std::ptrdiff_t block = block_of(n);
    region(ceil_div(n, block), cost,
           [&](std::ptrdiff_t b) { f(b * block, std::min(block, n - b * block)); });
  }

  // All rows forward, begin(first, rows) before a block's and end(first, rows) after them.
  template <class Begin, class End>
  void walk(std::ptrdiff_t n, const Begin& begin_block, const End& end_block) {
    const std::size_t count = net_.layers.size();
    std::size_t from = 0;
    do {
      // Up to the next layer of the whole batch.
      std::size_t to = from + 1;
      while (to < count && !net_.layers[to]->of_batch()) ++to;
      layer<T>& first = *net_.layers[from];
      const bool gathered = from == 0 && first.of_batch();
      if (gathered) each_block(n, 0, begin_block);
      if (first.of_batch()) {
        first.before_collect();
        region(first.parts(), first.cost() * double(n),
               [&](std::ptrdiff_t i) { first.collect(i, read(values_, from), n); });
        first.collected(n);
      }
      each_block(n, 2.5 * cost(n), [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
        if (from == 0 && !gathered) begin_block(begin, m);
        for (std::size_t l = from; l < to; ++l)
          net_.layers[l]->forward(read(values_, l).from(begin), values_[l + 1].from(begin),
                                  pass_of(n, begin, m));
        if (to == count) end_block(begin, m);
      });
      from = to;
    } while (from < count);
  }
  template <class Begin>
  void walk(std::ptrdiff_t n, const Begin& begin_block) {
    walk(n, begin_block, [](std::ptrdiff_t, std::ptrdiff_t) {});
  }

  // The highest layer of the whole batch below `top` that the way back comes to; `top` if none.
  std::size_t next_of_batch(std::size_t top) const {
    for (std::size_t l = top; l-- > bottom_;)
      if (net_.layers[l]->of_batch()) return l;
    return top;
  }
  bool turns_back() const { return next_of_batch(net_.layers.size()) < net_.layers.size(); }

  // Rows of a block back from layer top - 1 on, down to the next layer of the whole batch: from
  // there on all other blocks must have come as far.
  void back_block(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m, std::size_t top,
                  bool through = false) {
    for (std::size_t l = top; l-- > bottom_ + 1;) {
      if (net_.layers[l]->of_batch() && !(through && l + 1 == top)) return;
      net_.layers[l]->backward(read(slopes_, l + 1).from(begin), read(values_, l).from(begin),
                               slopes_[l].from(begin), pass_of(n, begin, m));
    }
  }
  // All rows back; `begun`: they are at the highest layer of the whole batch already.
  void walk_back(std::ptrdiff_t n, bool begun = false) {
    std::size_t top = net_.layers.size();
    if (!begun)
      each_block(n, 1.5 * cost(n),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t m) { back_block(n, begin, m, top); });
    for (std::size_t at; (at = next_of_batch(top)) < top; top = at) {
      layer<T>& l = *net_.layers[at];
      region(l.parts(), l.cost() * double(n), [&](std::ptrdiff_t i) {
        l.collect_backward(i, read(slopes_, at + 1), read(values_, at), n);
      });
      each_block(n, 1.5 * cost(n), [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
        back_block(n, begin, m, at + 1, true);
      });
    }
  }

  // False for a label out of range.
  bool loss_block(const targets<T>& y, const double* weight, const batch_of_rows& batch,
                  std::ptrdiff_t begin, std::ptrdiff_t n, double& sum) {
    const std::ptrdiff_t width = net_.out();
    const std::int64_t* rows = batch.rows + begin;
    block_of_targets<T> target{labels_.data() + begin, target_values_.data() + begin * width};
    if (y.labels) {
      for (std::ptrdiff_t i = 0; i < n; ++i) y.labels->read(rows[i], 1, labels_.data() + begin + i);
      if (loss_->bad_label(target.labels, n) >= 0) return false;
    } else {
      y.values.gather(rows, n, {target_values_.data() + begin * width, width});
    }
    const rows_of<T> out = outputs().from(begin), slope = output_slopes().from(begin);
    const std::ptrdiff_t values = loss_->values_of_row();
    const double unit = 1.0 / (batch.mass * double(values));
    if (!weight) {
      sum = unit * loss_->run({out.first, out.step}, target, n, unit * batch.share, nullptr, slope);
      return true;
    }
    struct tag;
    T* losses = thread_buffer<T, tag>(n * values);
    loss_->run({out.first, out.step}, target, n, 1.0, losses, slope);
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const double w = weight[rows[i]] / batch.mass / double(values);  // subnormal weights, too
      double row = 0;
      for (std::ptrdiff_t k = 0; k < values; ++k) row += double(losses[i * values + k]);
      // A row that weighs nothing counts nothing, be its loss infinite.
      sum += w == 0 ? 0.0 : w * row;
      const T factor = T(w * batch.share);
      for (std::ptrdiff_t k = 0; k < width; ++k)
        slope.row(i)[k] = w == 0 ? T(0) : slope.row(i)[k] * factor;
    }
    return true;
  }

  void gradient(const typename network<T>::part& part, std::ptrdiff_t n, bool sum) {
    const rows_of<T> dy = slopes_[part.index + 1], x = values_[part.index];
    if (part.index < bottom_) return;
    part.of->gradient(part.number, {dy.first, dy.step}, {x.first, x.step}, n, sum);
    for (const auto& s : part.of->spans(part.number))
      if (!all_finite(s.of->gradient + s.begin, s.end - s.begin))
        failed_.store(int(outcome::gradient), std::memory_order_relaxed);
  }

  std::ptrdiff_t offset_of(const tensor<T>* p) const {
    for (const auto& [own, offset] : offsets_)
      if (own == p) return offset;
    return 0;
  }

  void update(const typename network<T>::part& part, const std::vector<trained<T>>& parameters,
              const update_rule& rule, double factor) {
    for (const auto& s : part.of->spans(part.number)) {
      for (const trained<T>& p : parameters)
        if (p.of == s.of &&
            !rule.apply(p, s.begin, s.end, T(factor), before_.data() + offset_of(s.of) + s.begin))
          failed_.store(int(outcome::parameters), std::memory_order_relaxed);
    }
    part.of->prepare(part.number);
  }

  // The largest absolute value, inf if there is NaN.
  static double largest(const T* x, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    using bits = int_of<T>;
    const vec<bits> magnitude = std::numeric_limits<bits>::max();
    // Of non-negative numbers, as integers NaN is above all others. Several in flight.
    vec<bits> most[4] = {bits(0), bits(0), bits(0), bits(0)};
    const auto take = [&](vec<bits>& of, vec<T> v) {
      const vec<bits> b = bit_cast<bits>(v) & magnitude;
      of = select<bits>(b > of, b, of);
    };
    std::ptrdiff_t i = 0;
    for (; i + 4 * w <= n; i += 4 * w)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) take(most[k], load<T>(x + i + k * w));
    for (; i + w <= n; i += w) take(most[0], load<T>(x + i));
    if (i < n) take(most[0], load_part<T>(x + i, n - i));
    for (int k = 1; k < 4; ++k) take(most[0], bit_cast<T>(most[k]));
    T lanes[w];
    store<T>(lanes, bit_cast<T>(most[0]));
    double all = 0;
    for (T v : lanes) all = v <= all ? all : v == v ? double(v) : HUGE_VAL;
    return all;
  }
  void measure(std::ptrdiff_t begin, std::ptrdiff_t n, std::ptrdiff_t block) {
    const std::size_t count = net_.layers.size();
    for (std::size_t l = bottom_; l < count; ++l)
      if (net_.layers[l]->learns())
        // With what lies between the rows, which is 0.
        sizes_[std::size_t(block) * count + l] = {
            largest(values_[l].row(begin), n * values_[l].step),
            largest(slopes_[l + 1].row(begin), n * slopes_[l + 1].step)};
  }
  void measure_parameters(const std::vector<trained<T>>& parameters) {
    bound_ = {true, 0, 0};
    for (const trained<T>& p : parameters) {
      bound_.parameter = std::max(bound_.parameter, largest(p.of->value, p.of->size));
      if (p.state[0]) bound_.state = std::max(bound_.state, largest(p.state[0], p.of->size));
    }
  }
  // Whether an update with the slopes that were measured can only give finite numbers.
  bool stays_finite(const update_rule& rule, std::ptrdiff_t n) {
    constexpr double limit = double(std::numeric_limits<T>::max()) / 1e6;
    const std::size_t count = net_.layers.size();
    double gradient = 0;
    bound_.known = false;
    for (std::size_t l = 0; l < count; ++l) {
      double x = 1, dy = 0;
      for (std::size_t i = l; i < sizes_.size(); i += count) {
        x = std::max(x, sizes_[i].x);
        dy = std::max(dy, sizes_[i].dy);
      }
      const double most = double(n) * x * dy;
      if (!(most < limit)) return false;  // an infinite x times a slope of 0 is NaN, too
      gradient = std::max(gradient, most);
    }
    rule.bound(gradient, bound_.state, bound_.parameter);
    bound_.known = gradient < limit && bound_.state < limit && bound_.parameter < limit;
    return bound_.known;
  }

  void update_directly(const typename network<T>::part& part,
                       const std::vector<trained<T>>& parameters, const update_rule& rule,
                       std::ptrdiff_t n) {
    struct tag;
    const auto spans = part.of->spans(part.number);
    std::ptrdiff_t size = 0;
    for (const auto& s : spans) size += s.end - s.begin;
    T* memory = thread_buffer<T, tag>(size);
    T* gradients[2] = {};  // as gradient_to takes them
    const auto all = part.of->parameters();
    for (const auto& s : spans) {
      gradients[s.of == all[0] ? 0 : 1] = memory;
      memory += s.end - s.begin;
    }
    const rows_of<T> dy = slopes_[part.index + 1], x = values_[part.index];
    part.of->gradient_to(part.number, {dy.first, dy.step}, {x.first, x.step}, n, gradients[0],
                         gradients[1]);
    for (const auto& s : spans)
      for (const trained<T>& p : parameters)
        if (p.of == s.of) rule.apply(p, gradients[s.of == all[0] ? 0 : 1], s.begin, s.end);
    part.of->prepare(part.number);
  }

  // What the gradients are multiplied by, so that their norm is at most max_norm.
  double clip_factor(double max_norm) const {
    double squares = 0;
    for (const auto& [p, offset] : offsets_)
      squares += sum_of_squares<T>({view_of_run(p->gradient, p->size)});
    const double factor = max_norm / (std::sqrt(squares) + 1e-6);  // PyTorch's
    return factor >= 1 ? 1.0 : factor;
  }

  void restore() {
    for (const auto& [p, offset] : offsets_)
      std::copy(before_.data() + offset, before_.data() + offset + p->size, p->value);
    net_.prepare();
  }
};

}  // namespace dlcore
