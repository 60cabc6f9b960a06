// A training step: gather the rows of a batch, forward, loss, backward, update. Mini-batch after
// mini-batch without leaving C++.
//
// A step has two parallel regions. In the first each block of rows goes forward, through the loss
// and back; in the second each part of the parameters sums its gradient over the batch and is
// updated while the caches hold it, the weights of wide layers by panels (panels.hpp). An update
// that has begun cannot be taken back there, so that bounds have to say beforehand that it stays
// finite. Where they do not, or where the update needs all gradients first (a limit on their norm),
// it is a third region. Blocks, parts and sums depend on the shapes alone, so the bits do, too.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "kernels/reductions.hpp"
#include "network/losses.hpp"
#include "network/norm_layers.hpp"
#include "network/packed_weights.hpp"
#include "network/updates.hpp"

namespace dlcore {

// ---- data ---------------------------------------------------------------------------------------

// Of a sparse matrix in compressed rows: where each row begins, and the columns of its elements, as
// integers of 4 or 8 bytes.
struct compressed_rows {
  const void *starts, *columns;
  bool is_wide;

  template <class F>
  void each(std::int64_t row, const F& f) const {
    if (is_wide) each_of(static_cast<const std::int64_t*>(starts), row, f);
    else each_of(static_cast<const std::int32_t*>(starts), row, f);
  }

 private:
  template <class I, class F>
  void each_of(const I* starts, std::int64_t row, const F& f) const {
    const I* of = static_cast<const I*>(columns);
    for (I i = starts[row]; i < starts[row + 1]; ++i) f(std::ptrdiff_t(i), std::ptrdiff_t(of[i]));
  }
};

// Rows of a matrix of any layout, gathered by their numbers.
template <class T>
struct row_source {
  const char* data;
  std::ptrdiff_t row_stride, column_stride, width;  // strides in bytes
  std::optional<compressed_rows> sparse = {};       // then data are the elements that are not 0

  const T* row(std::int64_t r) const { return reinterpret_cast<const T*>(data + r * row_stride); }
  // Returns the largest absolute value.
  double gather(const std::int64_t* rows, std::ptrdiff_t n, rows_of<T> to) const {
    constexpr std::ptrdiff_t w = vec<T>::size;
    largest_of<T> largest;
    for (std::ptrdiff_t r = 0; r < n; ++r) {
      if (sparse) {
        std::fill_n(to.row(r), width, T(0));
        sparse->each(rows[r], [&](std::ptrdiff_t i, std::ptrdiff_t column) {
          to.row(r)[column] += reinterpret_cast<const T*>(data)[i];
        });
        largest.take(to.row(r), width);
        continue;
      }
      if (column_stride != sizeof(T)) {
        const char* from = data + rows[r] * row_stride;
        for (std::ptrdiff_t c = 0; c < width; ++c)
          std::memcpy(to.row(r) + c, from + c * column_stride, sizeof(T));
        largest.take(to.row(r), width);
        continue;
      }
      // The processor does not know where the next row is.
      const T* ahead = row(rows[std::min(r + 3, n - 1)]);
      prefetch(ahead, 0);
      prefetch(ahead + width - 1, 0);
      const T* from = row(rows[r]);
      std::ptrdiff_t c = 0;
      for (; c + w <= width; c += w) {
        const vec<T> x = load<T>(from + c);
        store<T>(to.row(r) + c, x);
        largest.take(x);
      }
      if (c < width) {
        const vec<T> x = load_part<T>(from + c, width - c);
        store_part<T>(to.row(r) + c, x, width - c);
        largest.take(x);
      }
    }
    return largest.value();
  }
};

// What the outputs of a data set should be: class indices, or values.
template <class T>
struct targets {
  const index_view* labels;  // null: values
  row_source<T> values;
};

// ---- the step -----------------------------------------------------------------------------------

enum class outcome { fine, loss, gradient, parameters, label };

// One mini-batch of a data set.
struct batch_of_rows {
  const std::int64_t* rows;  // their numbers
  std::ptrdiff_t n;
  double mass;            // the losses of the batch are divided by this
  double share;           // of the batch in its update; 0: it is passed over
  bool update;            // whether this batch completes an update
  const double* factors;  // of each loss in the batch; null: 1
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
      direct_ = direct_ && !l->of_batch() && (!l->learns() || l->has_gradient_to());
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

  // Before and after a row of `steps` batches with these parameters. In between their arrays may be
  // out of date.
  void open(const std::vector<trained<T>>& parameters, const update_rule& rule, double max_norm,
            std::ptrdiff_t steps) {
    const bool by_panels =
        direct_ && max_norm <= 0 && steps >= 8;  // pay for the way there and back
    if (parameters != parameters_ || by_panels != by_panels_) {
      parameters_ = parameters, by_panels_ = by_panels;
      deal(rule.states);
    }
    bound_.known = false;
    measures_all_ = !rule.is_close();
    measure_squares(rule);
    take_panels();
    region(
        std::ptrdiff_t(jobs_.size()), net_.cost() * 8,
        [&](std::ptrdiff_t i) {
          if (!jobs_[i].panels) net_.layers[jobs_[i].layer]->prepare(jobs_[i].part);
        },
        shares_);
  }
  void close() { give_panels(); }

  // Learns from a batch. `weight`: of each row of the data set, or null. Unless the outcome is
  // fine, the parameters are as before.
  outcome run(const row_source<T>& x, const targets<T>& y, const double* weight,
              const batch_of_rows& batch, const update_rule& rule, double max_norm,
              std::uint64_t key, double& loss) {
    const outcome result = learn(x, y, weight, batch, rule, max_norm, key, loss);
    if (result != outcome::fine) undo();
    return result;
  }
  // What layers keep of the last batch is forgotten.
  void undo() {
    for (const auto& l : net_.layers) l->undo();
  }

  // The sum of the squares of all parameters with a penalty.
  double squares() const { return squares_; }

  // Forgets gradients that wait for an update.
  void forget() { pending_ = false; }
  bool pending() const { return pending_; }

 private:
  outcome learn(const row_source<T>& x, const targets<T>& y, const double* weight,
                const batch_of_rows& batch, const update_rule& rule, double max_norm,
                std::uint64_t key, double& loss) {
    const std::ptrdiff_t n = batch.n, block = block_of(n), blocks = ceil_div(n, block);
    std::atomic<bool> bad_label{false};
    key_ = key;
    sums_.assign(blocks, 0.0);
    loss_->begin_batch(batch.factors);
    const std::size_t count = net_.layers.size();
    sizes_.assign(blocks * count, {});
    if (direct_ && !bound_.known) measure_parameters(rule);
    walk(
        n,
        [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
          sizes_[begin / block * count].x = x.gather(batch.rows + begin, m, values_[0].from(begin));
        },
        [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
          if (!(batch.share > 0)) return;
          if (!loss_block(y, weight, batch, begin, m, sums_[begin / block]))
            bad_label.store(true, std::memory_order_relaxed);
          else back_block(n, begin, m, count);
          if (direct_) measure(begin, m, &sizes_[begin / block * count]);
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
      take_panels();
      region(
          std::ptrdiff_t(jobs_.size()), cost(n) + double(before_.size()) * 0.4,
          [&](std::ptrdiff_t i) {
            const job& own = jobs_[i];
            if (own.panels)
              own.panels->update(own.part, read(slopes_, own.layer + 1), read(values_, own.layer),
                                 n, rule);
            else if (net_.layers[own.layer]->learns()) update_directly(own, rule, n);
            if (rule.penalizes()) squares_of_jobs_[i] = squares_after(own, rule);
          },
          shares_);
      if (rule.penalizes()) squares_ = tree_sum(squares_of_jobs_.data(), jobs_.size());
      return outcome::fine;
    }
    give_panels();
    bound_.known = false;
    failed_.store(int(outcome::fine), std::memory_order_relaxed);
    if (batch.share > 0) gradients(n);
    if (!batch.update || !pending_) return outcome::fine;
    pending_ = false;
    // An update is made whole or not at all.
    if (failed_.load() != int(outcome::fine)) return outcome(failed_.load());
    const double factor = max_norm > 0 ? clip_factor(max_norm) : 1.0;
    if (!(factor > 0)) return outcome::gradient;  // their norm is not finite
    each_learning_part([&](const auto& part) { update(part, rule, factor); });
    if (failed_.load() != int(outcome::fine)) restore();
    else if (averages()) each_learning_part([&](const auto& part) { average(part, rule); });
    measure_squares(rule);
    return outcome(failed_.load());
  }

  // ---- panels ----

  // Cuts direct updates into jobs.
  void deal(int states) {
    jobs_.clear(), panels_.clear();
    shares_ = {};
    const auto of = [&](const tensor<T>* p) -> const trained<T>* {
      for (const trained<T>& t : parameters_)
        if (t.of == p) return &t;
      return nullptr;
    };
    std::vector<linear_panels<T>*> by_layer(net_.layers.size());
    for (std::size_t l = 0; by_panels_ && l < net_.layers.size(); ++l) {
      auto* linear = dynamic_cast<linear_layer<T>*>(net_.layers[l].get());
      if (!linear || !linear_panels<T>::suits(*linear)) continue;
      const auto tensors = linear->parameters();
      const trained<T>* weight = of(tensors[0]);
      if (!weight) continue;
      const trained<T>* bias = tensors.size() > 1 ? of(tensors[1]) : nullptr;
      panels_.push_back(
          std::make_unique<linear_panels<T>>(*linear, *weight, bias, states, l > bottom_));
      by_layer[l] = panels_.back().get();
      for (std::ptrdiff_t i = 0; i < panels_.back()->parts(); ++i) {
        jobs_.push_back({panels_.back().get(), l, i, {}, {}});
        shares_.add(linear->cost() / double(panels_.back()->parts()));
      }
    }
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (!by_layer[parts_[i].index]) {
        job own{nullptr, parts_[i].index, parts_[i].number, {}, {}};
        const auto tensors = parts_[i].of->parameters();
        for (const auto& s : parts_[i].of->spans(parts_[i].number))
          (s.of == tensors[0] ? own.weight : own.bias) = piece{of(s.of), s.begin, s.end};
        jobs_.push_back(own);
        shares_.add(parts_[i].of->learns() ? parts_[i].of->cost() / double(parts_[i].of->parts())
                                           : 0.0);
      }
    squares_of_jobs_.assign(jobs_.size(), 0.0);
  }
  template <class F>
  void each_panel(const F& f) {
    region(
        std::ptrdiff_t(jobs_.size()), double(before_.size()) * 2,
        [&](std::ptrdiff_t i) {
          if (jobs_[i].panels) f(*jobs_[i].panels, jobs_[i].part);
        },
        shares_);
  }
  void take_panels() {
    for (const auto& p : panels_) p->reserve();
    if (!in_panels_) each_panel([](linear_panels<T>& l, std::ptrdiff_t i) { l.take(i); });
    in_panels_ = true;
  }
  void give_panels() {
    if (in_panels_) each_panel([](linear_panels<T>& l, std::ptrdiff_t i) { l.give(i); });
    in_panels_ = false;
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
  std::vector<trained<T>> parameters_;
  std::vector<std::unique_ptr<linear_panels<T>>> panels_;
  bool by_panels_ = false;  // whether there are some
  bool in_panels_ = false;  // whether the parameters are there now
  // A part of some layer's panels; null: a part of the network.
  struct piece {
    const trained<T>* of = nullptr;
    std::ptrdiff_t begin = 0, end = 0;
  };
  struct job {
    linear_panels<T>* panels;
    std::size_t layer;
    std::ptrdiff_t part;
    piece weight, bias;  // of a part of the network
  };
  std::vector<job> jobs_;
  std::vector<double> squares_of_jobs_;
  double squares_ = 0;
  dealt shares_;
  std::vector<std::unique_ptr<vec<T>[]>> memory_;
  std::vector<rows_of<T>> values_, slopes_;  // of the input of each layer and of the outputs
  std::size_t bottom_;                       // the lowest layer that learns
  std::vector<std::int64_t> labels_;
  std::vector<T> target_values_;
  std::vector<T> before_;                                       // the parameters before the update
  std::vector<std::pair<tensor<T>*, std::ptrdiff_t>> offsets_;  // where they lie there
  std::vector<double> sums_;
  std::vector<double> inputs_;  // bounds on the inputs of the layers
  // Whether parts can be updated as soon as their gradient is there: where that can only give
  // finite parameters, by bounds on all that goes into them.
  bool direct_;
  struct size_of_layer {
    double x = 0, dy = 0;  // the largest absolute values in a block; inf for NaN
  };
  std::vector<size_of_layer> sizes_;  // by block and layer
  bool measures_all_ = false;         // else the inputs and the last slopes alone
  struct {
    bool known = false;
    double parameter = 0, reach = 0;  // of the largest absolute parameter, and of the rule's state
  } bound_;
  std::atomic<int> failed_{0};
  std::uint64_t key_ = 0;

  // Subnormal numbers count as 0 in a step. Regions that follow each other closely cost five times
  // as much as one alone: below some 60 us a step two threads were slower than one.
  template <class F, class... Before>
  static void region(std::ptrdiff_t chunks, double nanoseconds, const F& f,
                     const Before&... before) {
    parallel_for(
        chunks, nanoseconds / 5,
        [&](std::ptrdiff_t i) {
          const flush_subnormals flushed;
          f(i);
        },
        before...);
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
          if (!net_.layers[l]->done_forward())
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
      if (net_.layers[l]->done_backward()) continue;
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
      y.labels->gather(rows, n, labels_.data() + begin);
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

  template <class F>
  void each_learning_part(const F& f) {
    region(std::ptrdiff_t(parts_.size()), double(before_.size()) * 0.4, [&](std::ptrdiff_t i) {
      if (parts_[i].of->learns()) f(parts_[i]);
    });
  }
  // f(parameter, begin, end) of what is trained in a part
  template <class F>
  void each_trained(const typename network<T>::part& part, const F& f) const {
    for (const auto& s : part.of->spans(part.number))
      for (const trained<T>& p : parameters_)
        if (p.of == s.of) f(p, s.begin, s.end);
  }
  void update(const typename network<T>::part& part, const update_rule& rule, double factor) {
    each_trained(part, [&](const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end) {
      if (!rule.apply(p, begin, end, T(factor), before_.data() + offset_of(p.of) + begin))
        failed_.store(int(outcome::parameters), std::memory_order_relaxed);
    });
    part.of->constrain(part.number);
    part.of->prepare(part.number);
  }
  bool averages() const {
    return std::any_of(parameters_.begin(), parameters_.end(),
                       [](const trained<T>& p) { return p.average != nullptr; });
  }
  void average(const typename network<T>::part& part, const update_rule& rule) const {
    each_trained(part, [&](const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end) {
      rule.average(p, begin, end);
    });
  }

  // With what lies between the rows, which is 0.
  static double largest_in(rows_of<T> rows, std::ptrdiff_t n) {
    largest_of<T> largest;
    largest.take(rows.first, n * rows.step);
    return largest.value();
  }
  void measure(std::ptrdiff_t begin, std::ptrdiff_t n, size_of_layer* sizes) {
    const std::size_t count = net_.layers.size();
    sizes[count - 1].dy = largest_in(output_slopes().from(begin), n);
    for (std::size_t l = bottom_; measures_all_ && l < count; ++l)
      if (net_.layers[l]->learns())
        sizes[l] = {largest_in(values_[l].from(begin), n),
                    largest_in(slopes_[l + 1].from(begin), n)};
  }
  void measure_parameters(const update_rule& rule) {
    bound_ = {true, 0, 0};
    for (const auto& l : net_.layers)
      for (const tensor<T>* p : l->parameters()) {
        largest_of<T> largest;
        largest.take(p->value, p->size);
        bound_.parameter = std::max(bound_.parameter, largest.value());
      }
    for (const trained<T>& p : parameters_) bound_.reach = std::max(bound_.reach, rule.reach(p));
  }
  // The largest absolute values of a layer in all blocks.
  size_of_layer size_of(std::size_t l) const {
    size_of_layer size;
    for (std::size_t i = l; i < sizes_.size(); i += net_.layers.size()) {
      size.x = std::max(size.x, sizes_[i].x);
      size.dy = std::max(size.dy, sizes_[i].dy);
    }
    return size;
  }
  // The largest that a gradient can be, by what inputs and slopes are, or can grow to on their way.
  double largest_gradient(std::ptrdiff_t n) {
    const std::size_t count = net_.layers.size();
    double x = size_of(0).x, dy = size_of(count - 1).dy, most = 0;
    inputs_.resize(count);
    for (std::size_t l = 0; l < count; ++l) {
      inputs_[l] = x;
      x = net_.layers[l]->bound_forward(x, bound_.parameter);
    }
    for (std::size_t l = count; l-- > bottom_;) {
      layer<T>& own = *net_.layers[l];
      if (own.learns()) {
        const size_of_layer size = measures_all_ ? size_of(l) : size_of_layer{inputs_[l], dy};
        const double gradient = double(n) * std::max(1.0, size.x) * size.dy;
        // An infinite x times a slope of 0 is NaN, and so is the gradient.
        if (!(gradient <= most)) most = gradient == gradient ? gradient : HUGE_VAL;
      }
      dy = own.bound_backward(dy, bound_.parameter);
    }
    return most;
  }
  // Whether an update can only give finite numbers.
  bool stays_finite(const update_rule& rule, std::ptrdiff_t n) {
    constexpr double limit = double(std::numeric_limits<T>::max()) / 1e6;
    double gradient = largest_gradient(n);
    bound_.known = gradient < limit;
    if (bound_.known) {
      rule.bound<T>(gradient, bound_.reach, bound_.parameter);
      // Clang would read `bound_.parameter <` as the start of a template's arguments.
      bound_.known = gradient < limit && limit > bound_.reach && limit > bound_.parameter;
    }
    if (!bound_.known) measures_all_ = true;  // from the next step on
    return bound_.known;
  }

  void update_directly(const job& own, const update_rule& rule, std::ptrdiff_t n) {
    struct tag;
    layer<T>& l = *net_.layers[own.layer];
    const std::ptrdiff_t weights = own.weight.end - own.weight.begin;
    T* memory = thread_buffer<T, tag>(weights + own.bias.end - own.bias.begin);
    l.gradient_to(own.part, read(slopes_, own.layer + 1), read(values_, own.layer), n,
                  own.weight.of ? memory : nullptr, own.bias.of ? memory + weights : nullptr);
    if (own.weight.of) rule.apply(*own.weight.of, memory, own.weight.begin, own.weight.end);
    if (own.bias.of) rule.apply(*own.bias.of, memory + weights, own.bias.begin, own.bias.end);
    l.constrain(own.part);
    for (const piece& p : {own.weight, own.bias})
      if (p.of) rule.average(*p.of, p.begin, p.end);
    l.prepare(own.part);
  }

  void measure_squares(const update_rule& rule) {
    squares_ = 0;
    for (const trained<T>& p : parameters_)
      if (rule.penalizes(p))
        squares_ += sum_of_squares<T>({view_of_run(p.of->value, p.of->size)}, parallel_for);
  }
  static double squares_after(const job& own, const update_rule& rule) {
    if (own.panels)
      return rule.penalizes(own.panels->weight()) ? own.panels->squares(own.part) : 0.0;
    double sum = 0;
    for (const piece& p : {own.weight, own.bias})
      if (p.of && rule.penalizes(*p.of))
        sum += squares_of(p.of->of->value + p.begin, p.end - p.begin);
    return sum;
  }

  // What the gradients are multiplied by, so that their norm is at most max_norm.
  double clip_factor(double max_norm) const {
    double squares = 0;
    for (const auto& [p, offset] : offsets_)
      squares += sum_of_squares<T>({view_of_run(p->gradient, p->size)}, parallel_for);
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
