#include "network/training_step.hpp"

#include <atomic>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "core/workspace.hpp"
#include "kernels/reductions.hpp"
#include "network/member_layers.hpp"
#include "network/sparse_layer.hpp"

namespace dlcore {

// A mini-batch of an epoch.
template <class T>
struct training_step<T>::batch {
  const std::int64_t* indices;
  std::ptrdiff_t n;            // 0 where all of its rows are left out
  double normalizer;           // the losses of the batch are divided by this
  double accumulation_weight;  // of the batch in its update; 0: it is passed over
  bool completes_update;
  const double* loss_factors;
  std::uint64_t key;

  batch(const epoch_spec<T>& e, std::ptrdiff_t i)
      : indices(e.order + e.offsets[i]),
        n(e.offsets[i + 1] - e.offsets[i]),
        normalizer(e.normalizers[i]),
        accumulation_weight(e.accumulation_weights[i]),
        completes_update((i + 1) % e.accumulate == 0 || (e.ends_update && i + 1 == e.batches)),
        loss_factors(e.loss_factors ? e.loss_factors + i * e.loss_count : nullptr),
        key(e.key + std::uint64_t(i) * 0x9e3779b97f4a7c15u) {}
  bool counts() const { return accumulation_weight > 0; }
};

// While there is one, weights may be packed; they are given back however the epoch ends.
template <class T>
struct training_step<T>::packing {
  direct_update<T>& of;

  explicit packing(direct_update<T>& of) : of(of) {}
  packing(const packing&) = delete;
  ~packing() { of.unpack_serially(); }
};

template <class T>
training_step<T>::training_step(network<T>& net, std::ptrdiff_t batch,
                                std::unique_ptr<block_loss<T>> loss, bool accumulate,
                                bool to_inputs)
    : net_(net),
      loss_(std::move(loss)),
      accumulate_(accumulate),
      passes_(net, batch, to_inputs),
      direct_(net, passes_),
      rollback_(net, passes_, accumulate),
      bounds_(net, passes_) {
  const std::ptrdiff_t rows = batch * net.copies();
  labels_.resize(loss_ && loss_->takes_labels() ? rows : 0);
  target_values_.resize(loss_ && !loss_->takes_labels() ? rows * net.out() : 0);
}

template <class T>
void training_step<T>::undo() {
  for (const auto& l : net_.layers)
    if (l->statistics) l->statistics->restore();
}

template <class T>
bool training_step<T>::forward(const matrix_rows<T>& x, const std::int64_t* indices,
                               std::ptrdiff_t n, std::uint64_t key) {
  net_.pack(true);
  begin_inputs(x, indices, n);
  passes_.begin_batch(key);
  passes_.forward(
      n, [&](std::ptrdiff_t begin, std::ptrdiff_t m) { read_inputs(x, indices, begin, m); },
      [](std::ptrdiff_t, std::ptrdiff_t) {});
  return !passes_.has_bad_code();
}

template <class T>
void training_step<T>::begin_inputs(const matrix_rows<T>& x, const std::int64_t* indices,
                                    std::ptrdiff_t n) {
  if (net_.sparse_input) net_.sparse_input->begin_batch(x, indices, n, true);
}

// Makes some rows of a batch ready for the first layer, and returns their largest absolute value.
template <class T>
double training_step<T>::read_inputs(const matrix_rows<T>& x, const std::int64_t* indices,
                                     std::ptrdiff_t begin, std::ptrdiff_t n) {
  return net_.sparse_input ? net_.sparse_input->largest(begin, n)
                           : x.gather(indices + begin, n, passes_.inputs().from(begin));
}

template <class T>
void training_step<T>::backward(std::ptrdiff_t n) {
  passes_.backward(n, false);
  rollback_.add_gradients(n);
}

template <class T>
auto training_step<T>::trained(const std::vector<parameter_spec<T>>& specs) const
    -> std::vector<trained_parameter<T>> {
  std::vector<trained_parameter<T>> all;
  for (const parameter_spec<T>& spec : specs) {
    layer<T>& own = *net_.layers[spec.layer];
    all.push_back({spec.is_bias ? &own.bias : &own.weight, spec.state, spec.group, spec.average});
  }
  return all;
}

template <class T>
void training_step<T>::begin_epoch(const epoch_spec<T>& epoch) {
  std::vector<trained_parameter<T>> parameters = trained(epoch.parameters);
  // Several steps have to pay for packing and unpacking.
  const bool packed = !accumulate_ && direct_.is_possible() && epoch.batches >= 8 &&
                      !takes_long(epoch.largest_batch());
  typename direct_update<T>::choice wanted{std::move(parameters), packed};
  if (packed && !epoch.data.x.sparse && !ranks_)
    direct_.choose_lazy(wanted, epoch.update, epoch.largest_batch());
  if (!(wanted == planned_)) {
    planned_ = std::move(wanted), parameters_ = planned_.parameters;
    direct_.plan(planned_);
  }
  bounds_.begin_epoch(epoch.update);
  measure_squared_norm(epoch.update);
  direct_.begin_epoch();
}

template <class T>
outcome training_step<T>::run(epoch_spec<T>& epoch, function_ref<bool(std::ptrdiff_t)> goes_on,
                              epoch_progress& progress) {
  using clock = std::chrono::steady_clock;
  const std::chrono::duration<double> slice(epoch.seconds);
  auto next_look = clock::now() + slice;
  // Of single rows asking the clock would take a fiftieth of each step.
  const bool is_short = epoch.seconds > 1e-3 && net_.cost() * double(epoch.largest_batch()) < 1e3;
  const std::ptrdiff_t between_asking = is_short ? 16 : 1;
  const packing given_back(direct_);
  begin_epoch(epoch);
  outcome result = outcome::fine;
  const std::ptrdiff_t groups = std::ptrdiff_t(epoch.update.groups.size()), width = net_.out();
  while (progress.batches < epoch.batches) {
    const std::ptrdiff_t i = progress.batches;
    const batch b(epoch, i);
    // The processor cannot know where the next row is, and a step of one takes no longer than it.
    if (is_short && i + 1 < epoch.batches && epoch.offsets[i + 1] < epoch.offsets[i + 2])
      epoch.data.prefetch_row(epoch.order[epoch.offsets[i + 1]]);
    if (epoch.learning_rates)
      epoch.update.set_learning_rates(epoch.learning_rates + progress.updates * groups);
    epoch.update.begin_step(double(progress.updates) + 1, b.normalizer);
    if (epoch.squared_norms) epoch.squared_norms[i] = squared_norm_;
    const bool was_pending = rollback_.is_pending();
    try {
      result = train_step(epoch, b, epoch.losses[i], [&] { return goes_on(progress.batches); });
    } catch (...) {
      undo(), forget();
      throw;
    }
    if (result != outcome::fine) {
      undo();
      break;
    }
    for (std::ptrdiff_t r = 0; epoch.outputs && r < b.n; ++r)
      copy_output(r, epoch.outputs + (epoch.offsets[i] + r) * width);
    if (b.completes_update && (was_pending || b.counts())) {
      ++progress.updates;
      epoch.update.end_step();
    }
    ++progress.batches;
    if (progress.batches < epoch.batches && progress.batches % between_asking == 0 &&
        clock::now() >= next_look) {
      if (!goes_on(progress.batches)) break;
      next_look = clock::now() + slice;
    }
  }
  direct_.unpack();
  return result;
}

// The output for a row, as inference gives it.
template <class T>
void training_step<T>::copy_output(std::ptrdiff_t r, T* to) const {
  const rows_of<const T> from = outputs().from(r * net_.copies()).read();
  if (net_.mean) net_.mean->combine(from, to);
  else std::copy_n(from.first, net_.out(), to);
}

// The ranks that a batch is shared with; null where it is too small for that.
template <class T>
ranks* training_step<T>::sharing(std::ptrdiff_t n) const {
  if (!ranks_ || n == 0) return nullptr;
  double parameters = 0;
  for (const trained_parameter<T>& p : parameters_) parameters += double(p.of->size);
  const double bytes = passes_.exchanged_bytes() * double(n) + parameters * double(sizeof(T));
  return ranks_->pays(3.5 * net_.cost() * double(n), bytes) ? ranks_ : nullptr;
}

// All ranks read the inputs of all rows, which costs less than a message.
template <class T>
void training_step<T>::read_all_inputs(const epoch_spec<T>& epoch, const batch& b) {
  const std::ptrdiff_t block = net_.block_of(b.n);
  step_region(ceil_div(b.n, block), double(b.n * net_.in()), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t begin = i * block;
    bounds_.set_input(i, read_inputs(epoch.data.x, b.indices, begin, std::min(block, b.n - begin)));
  });
}

// What ranks have to know of each other's blocks, whose message may have the rows as well.
template <class T>
void training_step<T>::exchange_losses(ranks& between, ranks::message& m, bool& bad_label) {
  enum : unsigned char { is_bad_label = 1, is_bad_code = 2 };
  const std::ptrdiff_t blocks = std::ptrdiff_t(block_losses_.size());
  std::vector<unsigned char> faults(std::size_t(between.size()), 0);
  faults[std::size_t(between.rank())] =
      (bad_label ? is_bad_label : 0) | (passes_.has_bad_code() ? is_bad_code : 0);
  for (std::ptrdiff_t rank = 0; rank < between.size(); ++rank) {
    const std::ptrdiff_t begin = between.begin_of(blocks, rank);
    m.add(rank, block_losses_.data() + begin, between.begin_of(blocks, rank + 1) - begin);
    m.add(rank, faults.data() + rank, 1);
  }
  between.exchange(m);
  for (const unsigned char fault : faults) {
    if (fault & is_bad_label) bad_label = true;
    if (fault & is_bad_code) passes_.set_bad_code();
  }
}

// What gradients are made of, and what bounds them.
template <class T>
void training_step<T>::add_rows(ranks::message& m, const ranks& between, std::ptrdiff_t n) {
  bounds_.add_sizes(m, std::ptrdiff_t(block_losses_.size()), between);
  passes_.add_rows(m, n);
}

template <class T>
outcome training_step<T>::train_step(const epoch_spec<T>& epoch, const batch& b, double& loss,
                                     function_ref<bool()> goes_on) {
  const optimizer& by = epoch.update;
  const std::ptrdiff_t n = b.n, block = net_.block_of(n), blocks = ceil_div(n, block);
  // What has begun to update must end: a long batch makes its gradients before.
  const bool may_be_direct = direct_.is_possible() && !accumulate_ && !takes_long(n);
  std::optional<watch> watched(std::in_place, net_.cost() * double(n), goes_on);
  ranks* const between = sharing(n);
  direct_.share_with(between);
  std::atomic<bool> bad_label{false};
  block_losses_.assign(blocks, 0.0);
  loss_->begin_batch(b.loss_factors);
  bounds_.begin_batch(blocks);
  if (may_be_direct && !bounds_.parameters_are_bounded())
    bounds_.measure_parameters(parameters_, by);
  if (may_be_direct) direct_.begin_batch(epoch.data.x, b.indices, n);
  begin_inputs(epoch.data.x, b.indices, n);
  passes_.begin_batch(b.key, between);
  if (between) read_all_inputs(epoch, b);
  passes_.forward(
      n,
      [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
        if (!between)
          bounds_.set_input(begin / block, read_inputs(epoch.data.x, b.indices, begin, m));
      },
      [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
        if (!b.counts()) return;
        if (!loss_block(epoch.data, b, begin, m, block_losses_[begin / block]))
          bad_label.store(true, std::memory_order_relaxed);
        else passes_.backward_block(n, begin, m);
        if (may_be_direct) bounds_.measure(begin / block, begin, m);
      });
  loss = 0;
  bool is_bad_label = bad_label.load();
  const bool waits = b.counts() && passes_.waits_for_batch();
  if (between) {
    ranks::message m(*between);
    if (!waits) add_rows(m, *between, n);
    exchange_losses(*between, m, is_bad_label);
    if (!waits) passes_.take_rows(n);
  }
  if (is_bad_label) return outcome::label;
  if (passes_.has_bad_code()) return outcome::code;
  if (b.counts()) {
    loss = tree_sum(block_losses_.data(), blocks);
    if (!std::isfinite(loss)) return outcome::loss;
    if (waits) {
      passes_.backward(n, true);
      if (may_be_direct) bounds_.measure_batch(n, between);
      if (between) {
        ranks::message m(*between);
        add_rows(m, *between, n);
        between->exchange(m);
        passes_.take_rows(n);
      }
    }
  }
  if (b.counts() && b.completes_update && !rollback_.is_pending() && may_be_direct &&
      bounds_.stays_finite(by, n)) {
    direct_.run(by, n, epoch.max_norm);
    if (by.penalizes()) squared_norm_ = direct_.squared_norm();
    return outcome::fine;
  }
  direct_.unpack();
  bounds_.forget();
  if (b.counts()) rollback_.add_gradients(n, between);
  watched.reset();
  if (!b.completes_update || !rollback_.is_pending()) return outcome::fine;
  const outcome result = rollback_.run(parameters_, by, epoch.max_norm, epoch.gradient_scale);
  measure_squared_norm(by);
  return result;
}

// Of a block of outputs the sum of the losses, and the gradient. False for a label out of range.
// The loss of a row is the mean of those of its members.
template <class T>
bool training_step<T>::loss_block(const dataset<T>& data, const batch& b, std::ptrdiff_t begin,
                                  std::ptrdiff_t n, double& sum) {
  const std::ptrdiff_t width = net_.out(), copies = net_.copies(), first = begin * copies;
  const std::int64_t* indices = b.indices + begin;
  const block_of_targets<T> target{labels_.data() + first, target_values_.data() + first * width};
  if (data.y.labels) {
    std::int64_t* const labels = labels_.data() + first;
    data.y.labels->gather(indices, n, labels);
    if (loss_->bad_label(labels, n) >= 0) return false;
    for (std::ptrdiff_t i = n; copies > 1 && i-- > 0;)
      std::fill_n(labels + i * copies, copies, std::int64_t(labels[i]));
  } else {
    T* const values = target_values_.data() + first * width;
    data.y.values.gather(indices, n, {values, width * copies});
    for (std::ptrdiff_t i = 0; copies > 1 && i < n; ++i)
      for (std::ptrdiff_t k = 1; k < copies; ++k)
        std::copy_n(values + i * copies * width, width, values + (i * copies + k) * width);
  }
  const rows_of<T> out = outputs().from(first), gradient = output_gradients().from(first);
  const std::ptrdiff_t values = loss_->values_of_row();
  const double unit = 1.0 / (b.normalizer * double(values * copies));
  const std::ptrdiff_t rows = n * copies;
  if (!data.weight) {
    sum = unit *
          loss_->run(out.read(), target, rows, unit * b.accumulation_weight, nullptr, gradient);
    return true;
  }
  struct tag;
  T* losses = thread_buffer<T, tag>(rows * values);
  loss_->run(out.read(), target, rows, 1.0, losses, gradient);
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    // Subnormal, too.
    const double w = data.weight[indices[i / copies]] / b.normalizer / double(values * copies);
    double row = 0;
    for (std::ptrdiff_t k = 0; k < values; ++k) row += double(losses[i * values + k]);
    // A row that weighs nothing counts nothing, be its loss infinite.
    sum += w == 0 ? 0.0 : w * row;
    const T factor = T(w * b.accumulation_weight);
    for (std::ptrdiff_t k = 0; k < width; ++k)
      gradient.row(i)[k] = w == 0 ? T(0) : gradient.row(i)[k] * factor;
  }
  return true;
}

template <class T>
void training_step<T>::measure_squared_norm(const optimizer& by) {
  squared_norm_ = 0;
  for (const trained_parameter<T>& p : parameters_)
    if (by.penalizes(p))
      squared_norm_ += sum_of_squares<T>({view_of_run(p.of->value, p.of->size)}, parallel_for);
}

template class training_step<float>;
template class training_step<double>;

}  // namespace dlcore
