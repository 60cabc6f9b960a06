// Loss functions, alone or fused with their gradient.
#pragma once

#include <vector>

#include "kernels/elementwise.hpp"
#include "kernels/softmax.hpp"

namespace dlcore {

enum class reduction { none, mean, sum };

// ---- elementwise losses -------------------------------------------------------------------------

// A loss functor gives the loss of an element and its derivative with respect to the first input.
// costly: worth code of its own without the slope, and a look for weights with each register.
template <class T>
struct loss_and_slope {
  vec<T> loss, slope;

  loss_and_slope times(vec<T> weight) const { return {loss * weight, slope * weight}; }
};

struct mse_loss {
  static constexpr const char* name = "mse_loss";
  static constexpr double cost = 0.2;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    vec<T> d = x - t;
    return {d * d, d + d};
  }
};

template <class T>
inline vec<T> sign(vec<T> x) {  // 0 for 0 and for NaN, like PyTorch's
  const vec<T> zero = T(0), one = T(1);
  return select<T>(x > zero, one, select<T>(x < zero, -one, zero));
}

struct l1_loss {
  static constexpr const char* name = "l1_loss";
  static constexpr double cost = 0.2;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    vec<T> d = x - t;
    return {abs(d), sign<T>(d)};
  }
};

struct smooth_l1_loss {
  static constexpr const char* name = "smooth_l1_loss";
  static constexpr double cost = 0.3;
  static constexpr bool costly = false;
  double beta;  // 0: the quotient is not used
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> half = T(0.5), b = T(beta);
    vec<T> d = x - t, a = abs(d), q = d / b;
    mask<T> linear = a >= b;
    return {select<T>(linear, a - half * b, half * d * q), select<T>(linear, sign<T>(d), q)};
  }
};

struct huber_loss {
  static constexpr const char* name = "huber_loss";
  static constexpr double cost = 0.3;
  static constexpr bool costly = false;
  double delta;  // > 0
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> half = T(0.5), limit = T(delta);
    vec<T> d = x - t, a = abs(d);
    mask<T> linear = a > limit;
    return {select<T>(linear, limit * (a - half * limit), half * d * d),
            select<T>(linear, limit * sign<T>(d), d)};
  }
};

// e^x - t x: the negative log-likelihood of counts t at the log-rate x, without what t alone adds.
struct poisson_nll_loss {
  static constexpr const char* name = "poisson_nll_loss";
  static constexpr double cost = 0.6;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0), rate = exp<T>(x);
    return {rate - select<T>(t == zero, zero, t * x), rate - t};
  }
};

// q d where d = t - x is positive, else (q - 1) d; q is a further input.
struct quantile_loss {
  static constexpr double cost = 0.3;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, vec<T> q) const {
    const vec<T> zero = T(0), one = T(1), d = t - x;
    const mask<T> below = d > zero, above = d < zero;
    return {select<T>(below, q, q - one) * d,
            select<T>(below, -q, select<T>(above, one - q, zero))};
  }
};

// t (log t - x), 0 where t is 0, though x may be -inf there; x are log-probabilities.
struct kl_div {
  static constexpr double cost = 1.0;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0);
    return {select<T>(t == zero, zero, t * (log<T>(t) - x)), -t};
  }
};

struct kl_div_log_target {
  static constexpr double cost = 1.0;
  static constexpr bool costly = false;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0), p = exp<T>(t);
    return {select<T>(p == zero, zero, p * (t - x)), -p};
  }
};

// The logs are not let below -100, nor x (1 - x) below 1e-12: finite losses for wrong certainties.
struct binary_cross_entropy {
  static constexpr double cost = 2.0;
  static constexpr bool costly = true;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> one = T(1), least = T(-100), tiny = T(1e-12);
    // max keeps its first argument where that is NaN.
    vec<T> log_x = max<T>(log<T>(x), least), log_rest = max<T>(log1p<T>(-x), least);
    vec<T> loss = (t - one) * log_rest - t * log_x;
    vec<T> slope = (x - t) / max<T>((one - x) * x, tiny);
    return {loss, slope};
  }
};

// (1 - t) softplus(x) + p t softplus(-x): no cancellation at any x, for t 0 and 1 above all. With
// softplus(-|x|) = log1p(e^-|x|) in both that is ((1 - t) + p t) log1p(e^-|x|), and |x| times 1 - t
// or p t, whichever side x is on.
// Inputs x, t, then p if PosWeight.
template <bool PosWeight>
struct binary_cross_entropy_with_logits {
  static constexpr double cost = 0.6;
  static constexpr bool costly = true;
  template <class T, class... P>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, P... p) const {
    static_assert(sizeof...(p) == PosWeight);
    const vec<T> on = (p * ... * t);
    const vec<T> one = T(1), zero = T(0), off = one - t, z = negative_abs<T>(x);
    const vec<T> e = exp_negative<T>(z), r = reciprocal<T>(one + e), small = e * r;
    vec<T> log = log1p_unit<T>(e);
    if constexpr (PosWeight) log = (off + on) * log;
    const mask<T> negative = x < zero;
    return {fma<T>(-z, select<T>(negative, on, off), log),
            fma<T>(off, select<T>(negative, small, r), -on * select<T>(negative, r, small))};
  }
};

// Where a run of a loss goes: the losses to memory or, if null, to the sum; unless null the slopes,
// times `factor`. `weight`: the number of the input that both are multiplied by, or 0.
template <class T>
struct loss_target {
  T *losses, *slopes;
  T factor;
  std::size_t weight;
  block_sum<T>& sum;
};

// A loss functor over a run of n elements of its inputs. `ahead`: bytes_ahead.
template <class T, bool Slopes, class F, std::size_t... I>
__attribute__((noinline)) void loss_run(const F& functor, const T* const* in, std::ptrdiff_t n,
                                        std::ptrdiff_t ahead, const loss_target<T>& to,
                                        std::index_sequence<I...>) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const F f = functor;
  const T* const from[] = {in[I]...};
  const T* weight = to.weight ? in[to.weight] : nullptr;
  // At run time: twice the code for each of them would be a third of the whole.
  T *const losses = to.losses, *const slopes = Slopes ? to.slopes : nullptr;
  const vec<T> factor = to.factor;
  block_sum<T> sum = to.sum;
  std::ptrdiff_t j = 0;
  for (; j + w <= n; j += w) {
    (prefetch(from[I] + j, ahead), ...);
    loss_and_slope<T> r = f(load<T>(from[I] + j)...);
    if constexpr (F::costly)
      if (weight) r = r.times(load<T>(weight + j));
    if (losses) store<T>(losses + j, r.loss);
    else sum.add(r.loss);
    if (slopes) store<T>(slopes + j, r.slope * factor);
  }
  if (j < n) {
    loss_and_slope<T> r = f(load_part<T>(from[I] + j, n - j)...);
    if constexpr (F::costly)
      if (weight) r = r.times(load_part<T>(weight + j, n - j));
    if (losses) store_part<T>(losses + j, r.loss, n - j);
    else sum.add(first_lanes<T>(r.loss, n - j));
    if (slopes) store_part<T>(slopes + j, r.slope * factor, n - j);
  }
  to.sum = sum;
}

// The same with K inputs, without what is not wanted.
template <std::size_t K, class T, class F>
inline void loss_run(const F& f, const T* const* in, std::ptrdiff_t n, std::ptrdiff_t ahead,
                     const loss_target<T>& to) {
  constexpr auto k = std::make_index_sequence<K>();
  if constexpr (F::costly)
    if (!to.slopes) return loss_run<T, false>(f, in, n, ahead, to, k);
  loss_run<T, true>(f, in, n, ahead, to, k);
}

template <class T>
using loss_ref =
    function_ref<void(const T* const*, std::ptrdiff_t, std::ptrdiff_t, const loss_target<T>&)>;

// The operands of a loss, of one shape: the inputs, then the losses and the slopes where wanted.
struct loss_operands {
  static constexpr std::size_t most = 4;
  std::array<view, most + 2> views;
  std::size_t inputs = 0, weight = 0;  // weight: as in loss_target
  bool losses = false, slopes = false;

  void add_input(const view& v) { views[inputs++] = v; }
  // After the inputs.
  void add_outputs(const view& of_losses, const view& of_slopes) {
    losses = of_losses.data, slopes = of_slopes.data;
    if (losses) views[inputs] = of_losses;
    if (slopes) views[inputs + losses] = of_slopes;
  }
};

// Runs a loss over its operands, in C order; the slopes are multiplied by `scale`. Returns the sum
// of the losses, 0 where each goes to memory. `cost`: nanoseconds an element, roughly.
template <class T>
inline double run_loss(const loss_ref<T>& f, loss_operands& operands, double cost, double scale) {
  const std::size_t inputs = operands.inputs;
  const bool each = operands.losses, slopes = operands.slopes;
  view* const views = operands.views.data();
  collapse({views, inputs + each + slopes});
  const std::ptrdiff_t n = views[0].size();
  sequence<T> in[loss_operands::most], loss_out, grad_out;
  bool direct = true;
  for (std::size_t k = 0; k < inputs; ++k) {
    in[k] = sequence<T>(views[k]);
    direct = direct && in[k].direct();
  }
  if (each) loss_out = output_sequence<T>(views[inputs], {views, inputs}, n);
  if (slopes) grad_out = output_sequence<T>(views[inputs + each], {views, inputs}, n);
  direct = direct && (!each || loss_out.direct()) && (!slopes || grad_out.direct());
  const element_chunks chunks(n);
  const std::ptrdiff_t step = direct ? chunks.size : tile_elements;
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t((inputs + 1) * sizeof(T)) * n);
  std::vector<double> sums(each ? 0 : chunks.count());
  parallel_for(chunks.count(), nanoseconds<T>(cost, n, direct), [&](std::ptrdiff_t chunk) {
    T buffer[loss_operands::most + 2][tile_elements];
    block_sum<T> sum;
    const std::ptrdiff_t end = chunks.end(chunk);
    for (std::ptrdiff_t i = chunks.begin(chunk); i < end; i += step) {
      const std::ptrdiff_t m = std::min(step, end - i);
      const T* from[loss_operands::most];
      for (std::size_t k = 0; k < inputs; ++k) from[k] = in[k].read(i, m, buffer[k]);
      const loss_target<T> to{each ? loss_out.write(i, buffer[inputs]) : nullptr,
                              slopes ? grad_out.write(i, buffer[inputs + 1]) : nullptr, T(scale),
                              operands.weight, sum};
      f(from, m, ahead, to);
      if (each) loss_out.finish(i, m, to.losses);
      if (slopes) grad_out.finish(i, m, to.slopes);
    }
    if (!each) sums[chunk] = sum.total();
  });
  return tree_sum(sums.data(), std::ptrdiff_t(sums.size()));
}

// Of K inputs. `losses` and `grads` may have no data.
template <class T, class F, std::size_t K>
inline double elementwise_loss(const F& f, const std::array<view, K>& inputs, const view& losses,
                               const view& grads, double scale) {
  loss_operands operands;
  for (const view& v : inputs) operands.add_input(v);
  operands.add_outputs(losses, grads);
  return run_loss<T>(
      [&](auto in, auto n, auto ahead, const auto& to) { loss_run<K>(f, in, n, ahead, to); },
      operands, F::cost, scale);
}

// True if every element is in [0, 1] or NaN.
template <class T>
inline bool all_probabilities(std::array<view, 1> x) {
  collapse(x);
  const sequence<T> in(x[0]);
  const element_chunks chunks(x[0].size());
  std::atomic<bool> good{true};
  parallel_for(chunks.count(), nanoseconds<T>(0.1, chunks.n), [&](std::ptrdiff_t chunk) {
    mask<T> bad = int_of<T>(0);
    visit_chunk(in, chunks, chunk,
                [&](vec<T> v) { bad = bad | (v < vec<T>(T(0))) | (v > vec<T>(T(1))); });
    if (any(bad)) good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

// ---- class indices ------------------------------------------------------------------------------

// Labels of any integer type, read without truncation.
struct index_view {
  view rows;
  int item_size = 8;
  bool is_signed = true;

  // A value beyond int64 reads as the lowest one, which no class and no label is.
  void read(std::ptrdiff_t begin, std::ptrdiff_t n, std::int64_t* to) const {
    with_type([&](auto type) {
      using I = decltype(type);
      for_each_run(rows, begin, n, [&](const char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
        const auto copy = [&](std::ptrdiff_t step) {
          for (std::ptrdiff_t i = 0; i < run; ++i) *to++ = value_at<I>(p + i * step);
        };
        if (stride == sizeof(I)) copy(sizeof(I));  // a constant: vectorised
        else copy(stride);
      });
    });
  }
  // Those of some rows, where there is one axis.
  void gather(const std::int64_t* numbers, std::ptrdiff_t n, std::int64_t* to) const {
    with_type([&](auto type) {
      for (std::ptrdiff_t i = 0; i < n; ++i)
        to[i] = value_at<decltype(type)>(rows.data + numbers[i] * rows.strides[0]);
    });
  }

 private:
  template <class F>
  void with_type(const F& f) const {
    switch (item_size * (is_signed ? 1 : -1)) {
      case 1:
        return f(std::int8_t());
      case 2:
        return f(std::int16_t());
      case 4:
        return f(std::int32_t());
      case 8:
        return f(std::int64_t());
      case -1:
        return f(std::uint8_t());
      case -2:
        return f(std::uint16_t());
      case -4:
        return f(std::uint32_t());
      default:
        return f(std::uint64_t());
    }
  }
  template <class I>
  static std::int64_t value_at(const char* p) {
    I value;
    std::memcpy(&value, p, sizeof value);
    const bool beyond = std::is_same_v<I, std::uint64_t> && value > I(INT64_MAX);
    return beyond ? INT64_MIN : std::int64_t(value);
  }
};

struct index_summary {
  std::ptrdiff_t first_bad;  // the row of the first label out of range, or -1
  double weight;             // the weights of the labels that are not ignored, added up
};

// One pass over the labels before anything is written.
template <class T>
inline index_summary check_indices(const index_view& target, std::ptrdiff_t rows,
                                   std::ptrdiff_t classes, std::ptrdiff_t ignore_index,
                                   const T* class_weight) {
  constexpr std::ptrdiff_t chunk_size = 16384, tile = 256;
  const std::ptrdiff_t chunks = ceil_div(rows, chunk_size);
  std::vector<double> weights(chunks);
  std::atomic<std::ptrdiff_t> first_bad{PTRDIFF_MAX};
  const auto is_bad = [&](std::int64_t i) {
    return (i != ignore_index) & (std::uint64_t(i) >= std::uint64_t(classes));
  };
  parallel_for(chunks, 0.3 * double(rows), [&](std::ptrdiff_t chunk) {
    std::int64_t index[tile];
    double sum = 0;
    const std::ptrdiff_t end = std::min(rows, (chunk + 1) * chunk_size);
    for (std::ptrdiff_t row = chunk * chunk_size; row < end; row += tile) {
      const std::ptrdiff_t n = std::min(tile, end - row);
      target.read(row, n, index);
      std::ptrdiff_t bad = 0, kept = 0;
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        bad += is_bad(index[i]);
        kept += index[i] != ignore_index;
      }
      if (bad > 0) {
        const std::ptrdiff_t first = row + (std::find_if(index, index + n, is_bad) - index);
        std::ptrdiff_t known = first_bad.load();
        while (first < known && !first_bad.compare_exchange_weak(known, first)) {
        }
        return;
      }
      if (!class_weight) {
        sum += double(kept);
        continue;
      }
      double parts[8] = {};  // short sums, so that the error does not grow with the rows
      for (std::ptrdiff_t i = 0; i < n; ++i)
        if (index[i] != ignore_index) parts[i % 8] += double(class_weight[index[i]]);
      sum += tree_sum(parts, 8);
    }
    weights[chunk] = sum;
  });
  const std::ptrdiff_t bad = first_bad.load();
  return {bad == PTRDIFF_MAX ? -1 : bad, tree_sum(weights.data(), chunks)};
}

// The labels of one register of rows: ignored ones read as class 0 and are masked.
template <class T>
struct row_targets : lane_labels<T> {
  vec<T> weight;  // of the label's class; 0 where ignored
  mask<T> ignored;
};

// The labels of a block of rows, all read at once: vectors that are loaded right after their
// elements were stored wait for them.
template <class T>
struct block_targets {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  std::int64_t index[max_groups * w] = {};
  std::array<row_targets<T>, max_groups> of;

  block_targets(const index_view& target, std::ptrdiff_t row, std::ptrdiff_t n) {
    target.read(row, n, index);
  }
  __attribute__((noinline)) void take(int g, std::ptrdiff_t ignore_index, const T* class_weight) {
    row_targets<T>& t = of[g];
    vec<std::int64_t> labels[wide_parts<T>], skip[wide_parts<T>];
    for (int part = 0; part < wide_parts<T>; ++part) {
      const std::ptrdiff_t at = part * vec<std::int64_t>::size;
      labels[part] = load(index + g * w + at);
      skip[part] = labels[part] == vec<std::int64_t>(ignore_index);
      labels[part] = labels[part] & ~skip[part];
      store(t.index + at, labels[part]);
    }
    t.ignored = narrow_lanes<T>(skip);
    t.lanes = narrow_lanes<T>(labels);
    t.weight = T(1);
    if (class_weight) {
      T weights[w];
      for (std::ptrdiff_t i = 0; i < w; ++i) weights[i] = class_weight[t.index[i]];
      t.weight = load<T>(weights);
    }
    t.weight = select<T>(t.ignored, T(0), t.weight);
  }
};

// ---- losses over rows of classes ----------------------------------------------------------------

template <class T>
struct row_loss_options {
  const T* class_weight;  // one a class, contiguous, or null
  double weight_sum;      // of class_weight, or the number of classes
  double label_smoothing;
  std::ptrdiff_t ignore_index;
  double scale;  // of the gradient
};

// Where the losses of the rows go: an array of them, or a sum for each chunk.
template <class T>
struct loss_sink {
  view losses;  // no data: sum
  std::vector<wide_sum<T>> sums;

  // The losses of n rows from `row` on, in the first n lanes.
  __attribute__((noinline)) void take(std::ptrdiff_t chunk, vec<T> loss, std::ptrdiff_t row,
                                      std::ptrdiff_t n) {
    if (losses.data) {
      T lanes[vec<T>::size];
      store<T>(lanes, loss);
      scatter(losses, row, n, lanes);
    } else {
      sums[chunk].add(first_lanes<T>(loss, n));
    }
  }
  double total() const {
    if (sums.size() == 1) return sums[0].total();
    std::vector<double> totals;
    for (const wide_sum<T>& sum : sums) totals.push_back(sum.total());
    return tree_sum(totals.data(), std::ptrdiff_t(totals.size()));
  }
};

// Cross-entropy of rows of logits with class indices. operands: logits, gradient.
template <class T, bool Grad>
struct cross_entropy_indices {
  const index_view& target;
  const row_loss_options<T>& options;
  loss_sink<T>& sink;

  // The sum of w (largest - x), for the smoothed part of the target.
  struct distances {
    const T* weights;
    row_values<T>& to;
    block_sum<T> sum;

    template <class Part, class J>
    void add(const Part& part, J j, vec<T> x, vec<T> largest) {
      vec<T> d = largest - x;
      if (weights) {
        // A class of weight 0 adds nothing, even where its logit is -inf.
        const vec<T> w = part.per_class(weights, j), zero = T(0);
        d = select<T>(w == zero, zero, d * w);
      }
      sum.add(part.valid(d, j));
    }
    template <class Part>
    void finish(const Part& part) {
      part.set(to, part.sum(sum));
    }
  };

  template <class Axis>
  void operator()(Axis& axis, std::ptrdiff_t chunk) const {
    const vec<T> zero = T(0);
    const T* w = options.class_weight;
    const vec<T> spread = T(options.label_smoothing / double(axis.classes));
    const vec<T> kept_share = T(1.0 - options.label_smoothing);
    const bool smooth = options.label_smoothing != 0;
    block_targets<T> targets(target, axis.first_row, axis.n);
    row_sums<T> sums;
    row_values<T> x_t, distance;
    // Before the exponentials, which may take the place of the logits.
    axis.each_group([&](int g) {
      targets.take(g, options.ignore_index, options.class_weight);
      x_t[g] = distance[g] = zero;
    });
    axis.each([&](const auto& part) { part.set(x_t, part.at(targets.of[part.g])); });
    if (smooth) sum_rows<T, Grad>(axis, sums, [&] { return distances{w, distance, {}}; });
    else sum_rows<T, Grad>(axis, sums, [] { return no_companion(); });

    // Of the gradient: at the label, of every exponential, of every class (smoothed alone).
    row_values<T> g_t, factor, share, ignored;  // ignored: a mask's bits
    axis.each_group([&](int g) {
      const row_targets<T>& t = targets.of[g];
      const vec<T> log = sums.log(g);
      vec<T> loss = t.weight * (log + (sums.largest[g] - x_t[g]));
      if (smooth)
        loss = kept_share * loss + spread * (log * vec<T>(T(options.weight_sum)) + distance[g]);
      sink.take(chunk, select<T>(t.ignored, zero, loss), axis.row(g), axis.rows(g));

      if constexpr (Grad) {
        const vec<T> scale = select<T>(t.ignored, zero, vec<T>(T(options.scale)));
        const vec<T> own = scale * t.weight * kept_share;
        vec<T> all = own;
        if (smooth) all += scale * spread * vec<T>(T(options.weight_sum));
        const vec<T> inverse = sums.inverse(g);
        factor[g] = inverse * all;
        share[g] = scale * spread;
        // p - 1 at the label, from the sums kept apart: exact where p is nearly 1.
        const vec<T> e_t = exp_negative<T>(x_t[g] - sums.largest[g]);
        vec<T> at_label = own * (((e_t - sums.ties[g]) - sums.others[g]) * inverse);
        if (smooth) at_label += share[g] * fma<T>(e_t * inverse, T(options.weight_sum), -t.weight);
        g_t[g] = select<T>(t.ignored, zero, at_label);
        ignored[g] = bit_cast<T>(t.ignored);
      }
    });

    if constexpr (Grad)
      axis.each([&](const auto& part) {
        const row_targets<T>& t = targets.of[part.g];
        const vec<T> largest = part.of(sums.largest), f = part.of(factor), s = part.of(share);
        const vec<T> at_label = part.of(g_t);
        const mask<T> skip = bit_cast<int_of<T>>(part.of(ignored));
        const auto again = [&](vec<T> x) { return exp_negative<T>(x - largest); };
        part.write([&](auto j) {
          vec<T> g = part.kept(j, again) * f;
          if (smooth) g = g - (w ? s * part.per_class(w, j) : s);
          return part.with_label(j, t, at_label, select<T>(skip, zero, g));
        });
        part.put_label(t, at_label);
      });
  }
};

// Cross-entropy of rows of logits with class probabilities. operands: logits, target, gradient.
template <class T, bool Grad>
struct cross_entropy_probabilities {
  const row_loss_options<T>& options;
  loss_sink<T>& sink;

  // The targets q of a class: smoothed and weighted.
  template <class Part, class J>
  vec<T> weighted_target(const Part& part, J j) const {
    const vec<T> spread = T(options.label_smoothing / double(part.classes));
    const vec<T> kept_share = T(1.0 - options.label_smoothing);
    const vec<T> q = fma<T>(part.in(1, j, T(0)), kept_share, spread);
    return options.class_weight ? q * part.per_class(options.class_weight, j) : q;
  }

  // The sums of q and of q (largest - x).
  struct target_sums {
    const cross_entropy_probabilities& of;
    row_values<T>&to_mass, &to_distance;
    block_sum<T> mass, distance;

    template <class Part, class J>
    void add(const Part& part, J j, vec<T> x, vec<T> largest) {
      const vec<T> q = of.weighted_target(part, j), zero = T(0);
      mass.add(part.valid(q, j));
      // A class of probability 0 adds nothing, even where its logit is -inf.
      distance.add(part.valid(select<T>(q == zero, zero, q * (largest - x)), j));
    }
    template <class Part>
    void finish(const Part& part) {
      part.set(to_mass, part.sum(mass));
      part.set(to_distance, part.sum(distance));
    }
  };

  template <class Axis>
  void operator()(Axis& axis, std::ptrdiff_t chunk) const {
    row_sums<T> sums;
    row_values<T> mass, distance, factor;
    axis.each_group([&](int g) { mass[g] = distance[g] = T(0); });
    sum_rows<T, Grad>(axis, sums, [&] { return target_sums{*this, mass, distance, {}, {}}; });
    axis.each_group([&](int g) {
      sink.take(chunk, fma<T>(sums.log(g), mass[g], distance[g]), axis.row(g), axis.rows(g));
      factor[g] = vec<T>(T(options.scale)) * sums.inverse(g);
    });
    if constexpr (Grad)
      axis.each([&](const auto& part) {
        const vec<T> largest = part.of(sums.largest), ties = part.of(sums.ties);
        const vec<T> others = part.of(sums.others), total = part.of(mass), f = part.of(factor);
        const auto again = [&](vec<T> x) { return exp_negative<T>(x - largest); };
        part.write([&](auto j) {
          // total e - q (ties + others), the large terms first: they cancel exactly where p is q.
          const vec<T> q = weighted_target(part, j);
          const vec<T> large = fma<T>(-q, ties, total * part.kept(j, again));
          return f * fma<T>(-q, others, large);
        });
      });
  }
};

// Negative log-likelihood of rows of log-probabilities: a loss and a slope a row, so scalars, where
// the vectors of the losses above would be much code for nothing. Without gradient dx has no data.
template <class T>
inline double nll_indices(const row_shape& shape, const row_view& x, const row_view& dx,
                          const index_view& target, const row_loss_options<T>& options,
                          const view& losses) {
  constexpr std::ptrdiff_t tile = 256;
  const std::ptrdiff_t chunk = ceil_div(shape.chunk(), tile) * tile;
  std::vector<double> sums(ceil_div(shape.rows, chunk));
  const double cost = (dx.rows.data ? 0.3 * double(shape.classes) : 0) + 3;
  parallel_for(std::ptrdiff_t(sums.size()), cost * double(shape.rows), [&](std::ptrdiff_t i) {
    std::int64_t label[tile];
    T loss[tile], slope[tile];
    const std::ptrdiff_t end = std::min(shape.rows, (i + 1) * chunk);
    for (std::ptrdiff_t row = i * chunk; row < end; row += tile) {
      const std::ptrdiff_t n = std::min(tile, end - row);
      const auto each = [&](const view& rows, const auto& f) {
        std::ptrdiff_t r = 0;
        for_each_run(rows, row, n, [&](char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
          for (std::ptrdiff_t k = 0; k < run; ++k) f(p + k * stride, r++);
        });
      };
      target.read(row, n, label);
      each(x.rows, [&](const char* p, std::ptrdiff_t r) {
        const bool ignored = label[r] == options.ignore_index;
        T value = 0, weight = ignored ? T(0) : T(1);
        if (!ignored) {
          std::memcpy(&value, p + label[r] * x.class_stride, sizeof(T));
          if (options.class_weight) weight = options.class_weight[label[r]];
        }
        loss[r] = ignored ? T(0) : -weight * value;
        slope[r] = ignored ? T(0) : -weight * T(options.scale);
        if (!losses.data) sums[i] += double(loss[r]);
      });
      if (losses.data) scatter(losses, row, n, loss);
      if (!dx.rows.data) continue;
      const T zero = 0;
      if (dx.class_stride == sizeof(T)) {
        each(dx.rows, [&](char* p, std::ptrdiff_t) {
          std::memset(p, 0, shape.classes * sizeof(T));  // the bytes of 0
        });
      } else {
        for (std::ptrdiff_t c = 0; c < shape.classes; ++c) {
          view of_class = dx.rows;
          of_class.data += c * dx.class_stride;
          each(of_class, [&](char* p, std::ptrdiff_t) { std::memcpy(p, &zero, sizeof(T)); });
        }
      }
      each(dx.rows, [&](char* p, std::ptrdiff_t r) {
        if (label[r] != options.ignore_index)
          std::memcpy(p + label[r] * dx.class_stride, &slope[r], sizeof(T));
      });
    }
  });
  return tree_sum(sums.data(), std::ptrdiff_t(sums.size()));
}

template <class T, class Kernel, std::size_t K>
inline double row_loss(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                       const Kernel& kernel) {
  kernel.sink.sums.assign(shape.chunks(), {});
  for_rows<T>(shape, operands, cost, kernel);
  return kernel.sink.total();
}

}  // namespace dlcore
