// Loss functions, alone or fused with their gradient.
#pragma once

#include <vector>

#include "elementwise.hpp"
#include "softmax.hpp"

namespace dlcore {

enum class reduction { none, mean, sum };

// ---- elementwise losses -------------------------------------------------------------------------

// A loss functor gives the loss of an element and its derivative with respect to the first input.
template <class T>
struct loss_and_slope {
  vec<T> loss, slope;
};

struct mse_loss {
  static constexpr const char* name = "mse_loss";
  static constexpr double cost = 0.2;
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
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    vec<T> d = x - t;
    return {abs(d), sign<T>(d)};
  }
};

struct smooth_l1_loss {
  static constexpr const char* name = "smooth_l1_loss";
  static constexpr double cost = 0.3;
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

// t (log t - x), 0 where t is 0, though x may be -inf there; x are log-probabilities.
struct kl_div {
  static constexpr double cost = 1.0;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0);
    return {select<T>(t == zero, zero, t * (log<T>(t) - x)), -t};
  }
};

struct kl_div_log_target {
  static constexpr double cost = 1.0;
  template <class T>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t) const {
    const vec<T> zero = T(0), p = exp<T>(t);
    return {select<T>(p == zero, zero, p * (t - x)), -p};
  }
};

// The logs are not let below -100, nor x (1 - x) below 1e-12: finite losses for wrong certainties.
struct binary_cross_entropy {
  static constexpr double cost = 2.0;
  template <class T, class... W>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, W... weight) const {
    const vec<T> one = T(1), least = T(-100), tiny = T(1e-12);
    // max keeps its first argument where that is NaN.
    vec<T> log_x = max<T>(log<T>(x), least), log_rest = max<T>(log1p<T>(-x), least);
    vec<T> loss = (t - one) * log_rest - t * log_x;
    vec<T> slope = (x - t) / max<T>((one - x) * x, tiny);
    return {(loss * ... * weight), (slope * ... * weight)};
  }
};

// (1 - t) softplus(x) + p t softplus(-x): no cancellation at any x, for t 0 and 1 above all.
// Inputs x, t, then p if PosWeight, then a weight of the element or none.
template <bool PosWeight>
struct binary_cross_entropy_with_logits {
  static constexpr double cost = 2.0;
  template <class T, class... W>
  loss_and_slope<T> operator()(vec<T> x, vec<T> t, W... rest) const {
    if constexpr (PosWeight) return positive_weighted<T>(x, t, rest...);
    else return weighted<T>(x, t, t, rest...);
  }

 private:
  template <class T, class... W>
  loss_and_slope<T> positive_weighted(vec<T> x, vec<T> t, vec<T> p, W... weight) const {
    return weighted<T>(x, t, p * t, weight...);
  }
  template <class T, class... W>
  loss_and_slope<T> weighted(vec<T> x, vec<T> t, vec<T> on, W... weight) const {
    const vec<T> one = T(1), zero = T(0), off = one - t;
    const vec<T> e = exp<T>(-abs(x)), r = one / (one + e), small = e * r, log = log1p_unit<T>(e);
    const mask<T> negative = x < zero;
    vec<T> loss = off * (log + max<T>(x, zero)) + on * (log + max<T>(-x, zero));
    vec<T> slope = off * select<T>(negative, small, r) - on * select<T>(negative, r, small);
    return {(loss * ... * weight), (slope * ... * weight)};
  }
};

// Runs a loss over inputs of one shape, in C order. `losses` and `grads` may have no data; the
// slopes are multiplied by `scale`. Returns the sum of the losses.
template <class T, bool Loss, bool Grad, class F, std::size_t K, std::size_t... I>
inline double loss_sequences(const F& f, const std::array<view, K>& inputs, const view& losses,
                             const view& grads, double scale, std::index_sequence<I...>) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const sequence<T> in[] = {sequence<T>(inputs[I])...};
  const sequence<T> loss_out(losses), grad_out(grads);
  const bool direct =
      (in[I].direct() && ...) && (!Loss || loss_out.direct()) && (!Grad || grad_out.direct());
  const std::ptrdiff_t n = inputs[0].size();
  const std::ptrdiff_t chunks = ceil_div(n, chunk_elements);
  const std::ptrdiff_t step = direct ? chunk_elements : tile_elements;
  const vec<T> factor = T(scale);
  std::vector<double> sums(Loss ? 0 : chunks);
  parallel_for(chunks, F::cost * double(n), [&](std::ptrdiff_t chunk) {
    T buffer[K + 2][tile_elements];
    block_sum<T> sum;
    const std::ptrdiff_t end = std::min(n, (chunk + 1) * chunk_elements);
    for (std::ptrdiff_t i = chunk * chunk_elements; i < end; i += step) {
      const std::ptrdiff_t m = std::min(step, end - i);
      const T* from[] = {in[I].read(i, m, buffer[I])...};
      T* loss_to = Loss ? loss_out.write(i, buffer[K]) : nullptr;
      T* grad_to = Grad ? grad_out.write(i, buffer[K + 1]) : nullptr;
      std::ptrdiff_t j = 0;
      for (; j + w <= m; j += w) {
        const loss_and_slope<T> r = f(load<T>(from[I] + j)...);
        if constexpr (Loss) store<T>(loss_to + j, r.loss);
        else sum.add(r.loss);
        if constexpr (Grad) store<T>(grad_to + j, r.slope * factor);
      }
      if (j < m) {
        const loss_and_slope<T> r = f(load_part<T>(from[I] + j, m - j)...);
        if constexpr (Loss) store_part<T>(loss_to + j, r.loss, m - j);
        else sum.add(first_lanes<T>(r.loss, m - j));
        if constexpr (Grad) store_part<T>(grad_to + j, r.slope * factor, m - j);
      }
      if constexpr (Loss) loss_out.finish(i, m, loss_to);
      if constexpr (Grad) grad_out.finish(i, m, grad_to);
    }
    if constexpr (!Loss) sums[chunk] = sum.total();
  });
  return tree_sum(sums.data(), std::ptrdiff_t(sums.size()));
}

template <class T, class F, std::size_t K>
inline double elementwise_loss(const F& f, std::array<view, K>& inputs, view& losses, view& grads,
                               double scale) {
  std::array<view, K + 2> all;
  std::copy(inputs.begin(), inputs.end(), all.begin());
  all[K] = losses.data ? losses : inputs[0];
  all[K + 1] = grads.data ? grads : inputs[0];
  collapse(all);
  std::copy(all.begin(), all.begin() + K, inputs.begin());
  constexpr auto k = std::make_index_sequence<K>();
  if (losses.data)
    return grads.data ? loss_sequences<T, true, true>(f, inputs, all[K], all[K + 1], scale, k)
                      : loss_sequences<T, true, false>(f, inputs, all[K], all[K + 1], scale, k);
  return grads.data ? loss_sequences<T, false, true>(f, inputs, all[K], all[K + 1], scale, k)
                    : loss_sequences<T, false, false>(f, inputs, all[K], all[K + 1], scale, k);
}

// True if every element is in [0, 1] or NaN.
template <class T>
inline bool all_probabilities(std::array<view, 1> x) {
  collapse(x);
  const sequence<T> in(x[0]);
  const std::ptrdiff_t n = x[0].size();
  std::atomic<bool> good{true};
  parallel_for(ceil_div(n, chunk_elements), 0.1 * double(n), [&](std::ptrdiff_t chunk) {
    mask<T> bad = int_of<T>(0);
    visit_chunk(in, n, chunk,
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

  // A value beyond ptrdiff_t reads as the lowest one, which no class and no label is.
  void read(std::ptrdiff_t begin, std::ptrdiff_t n, std::ptrdiff_t* to) const {
    switch (item_size * (is_signed ? 1 : -1)) {
      case 1:
        return read_as<std::int8_t>(begin, n, to);
      case 2:
        return read_as<std::int16_t>(begin, n, to);
      case 4:
        return read_as<std::int32_t>(begin, n, to);
      case 8:
        return read_as<std::int64_t>(begin, n, to);
      case -1:
        return read_as<std::uint8_t>(begin, n, to);
      case -2:
        return read_as<std::uint16_t>(begin, n, to);
      case -4:
        return read_as<std::uint32_t>(begin, n, to);
      default:
        return read_as<std::uint64_t>(begin, n, to);
    }
  }

 private:
  template <class I>
  void read_as(std::ptrdiff_t begin, std::ptrdiff_t n, std::ptrdiff_t* to) const {
    for_each_run(rows, begin, n, [&](const char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
      for (std::ptrdiff_t i = 0; i < run; ++i) {
        I value;
        std::memcpy(&value, p + i * stride, sizeof value);
        const bool beyond = std::is_same_v<I, std::uint64_t> && value > I(PTRDIFF_MAX);
        *to++ = beyond ? PTRDIFF_MIN : std::ptrdiff_t(value);
      }
    });
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
  parallel_for(chunks, 1.0 * double(rows), [&](std::ptrdiff_t chunk) {
    std::ptrdiff_t index[tile];
    double sum = 0;
    const std::ptrdiff_t end = std::min(rows, (chunk + 1) * chunk_size);
    for (std::ptrdiff_t row = chunk * chunk_size; row < end; row += tile) {
      const std::ptrdiff_t n = std::min(tile, end - row);
      target.read(row, n, index);
      double parts[8] = {};  // short sums, so that the error does not grow with the rows
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        if (index[i] == ignore_index) continue;
        if (index[i] < 0 || index[i] >= classes) {
          std::ptrdiff_t known = first_bad.load();
          while (row + i < known && !first_bad.compare_exchange_weak(known, row + i)) {
          }
          return;
        }
        parts[i % 8] += class_weight ? double(class_weight[index[i]]) : 1.0;
      }
      sum += tree_sum(parts, 8);
    }
    weights[chunk] = sum;
  });
  const std::ptrdiff_t bad = first_bad.load();
  return {bad == PTRDIFF_MAX ? -1 : bad, tree_sum(weights.data(), chunks)};
}

// The labels of one register of rows: ignored ones read as class 0 and are masked.
template <class T>
struct lane_targets {
  std::ptrdiff_t index[vec<T>::size];
  vec<T> weight;  // of the label's class; 0 where ignored
  mask<T> ignored;

  // `row_per_lane` false: one row, the same in all lanes.
  lane_targets(const index_view& target, std::ptrdiff_t row, std::ptrdiff_t n, bool row_per_lane,
               std::ptrdiff_t ignore_index, const T* class_weight) {
    target.read(row, n, index);
    weight = T(0);
    ignored = int_of<T>(-1);
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      if (index[i] == ignore_index) {
        index[i] = 0;
      } else {
        weight.v[i] = class_weight ? class_weight[index[i]] : T(1);
        ignored.v[i] = 0;
      }
    }
    if (!row_per_lane) {
      weight = T(weight.v[0]);
      ignored = int_of<T>(ignored.v[0]);
    }
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
  std::vector<double> sums;

  // The losses of n rows from `row` on, in the first n lanes.
  void take(double& sum, vec<T> loss, std::ptrdiff_t row, std::ptrdiff_t n) const {
    if (losses.data) {
      T lanes[vec<T>::size];
      store<T>(lanes, loss);
      scatter(losses, row, n, lanes);
    } else {
      wide_sum<T> rows;
      rows.add(first_lanes<T>(loss, n));
      sum += rows.total();
    }
  }
};

// Cross-entropy of rows of logits with class indices. operands: logits, gradient.
template <class T, bool Grad, bool Smooth>
struct cross_entropy_indices {
  const index_view& target;
  const row_loss_options<T>& options;
  loss_sink<T>& sink;

  auto chunk(std::ptrdiff_t c) const {
    sink.sums[c] = 0;
    return [this, c](auto& axis, std::ptrdiff_t row, std::ptrdiff_t n) {
      const vec<T> zero = T(0), one = T(1);
      const T* w = options.class_weight;
      const lane_targets<T> t(target, row, n, axis.rows_at_once > 1, options.ignore_index, w);
      const vec<T> spread = T(options.label_smoothing / double(axis.classes));
      const vec<T> kept_share = T(1.0 - options.label_smoothing);

      const vec<T> x_t = axis.at(t.index);
      block_sum<T> distance;  // sum of w (largest - x), for the smoothed part of the target
      const row_sums<T> sums = sum_row<T, Grad>(
          axis, [&]([[maybe_unused]] auto j, [[maybe_unused]] vec<T> x, [[maybe_unused]] vec<T> m) {
            if constexpr (Smooth) {
              vec<T> d = m - x;
              if (w) {
                // A class of weight 0 adds nothing, even where its logit is -inf.
                const vec<T> w_j = axis.per_class(w, j);
                d = select<T>(w_j == zero, zero, d * w_j);
              }
              distance.add(axis.valid(d, j));
            }
          });
      const vec<T> log = sums.log();
      vec<T> loss = t.weight * (log + (sums.largest - x_t));
      if constexpr (Smooth)
        loss =
            kept_share * loss + spread * (log * vec<T>(T(options.weight_sum)) + axis.sum(distance));
      sink.take(sink.sums[c], select<T>(t.ignored, zero, loss), row, n);

      if constexpr (Grad) {
        const vec<T> scale = select<T>(t.ignored, zero, vec<T>(T(options.scale)));
        const vec<T> own = scale * t.weight * (Smooth ? kept_share : one);
        vec<T> all = own;
        if constexpr (Smooth) all += scale * spread * vec<T>(T(options.weight_sum));
        const vec<T> inverse = sums.inverse(), factor = inverse * all;
        const auto again = [&](vec<T> x) { return exp<T>(x - sums.largest); };
        axis.sweep([&](auto j) {
          vec<T> g = axis.kept(j, again) * factor;
          if constexpr (Smooth) {
            const vec<T> share = scale * spread;
            g = g - (w ? share * axis.per_class(w, j) : share);
          }
          axis.put(j, select<T>(t.ignored, zero, g));
        });
        // p - 1 at the label, from the sums kept apart: exact where p is nearly 1.
        const vec<T> e_t = exp<T>(x_t - sums.largest);
        vec<T> g_t = own * (((e_t - sums.ties) - sums.others) * inverse);
        if constexpr (Smooth) {
          vec<T> w_t = t.weight;
          g_t += scale * spread * fma<T>(e_t * inverse, T(options.weight_sum), -w_t);
        }
        axis.put_at(t.index, select<T>(t.ignored, zero, g_t));
        axis.close();
      }
    };
  }
};

// Cross-entropy of rows of logits with class probabilities. operands: logits, target, gradient.
template <class T, bool Grad>
struct cross_entropy_probabilities {
  const row_loss_options<T>& options;
  loss_sink<T>& sink;

  auto chunk(std::ptrdiff_t c) const {
    sink.sums[c] = 0;
    return [this, c](auto& axis, std::ptrdiff_t row, std::ptrdiff_t n) {
      const vec<T> zero = T(0);
      const T* w = options.class_weight;
      const vec<T> spread = T(options.label_smoothing / double(axis.classes));
      const vec<T> kept_share = T(1.0 - options.label_smoothing);
      const auto weighted_target = [&](auto j) {
        vec<T> q = fma<T>(axis.in(1, j, T(0)), kept_share, spread);
        return w ? q * axis.per_class(w, j) : q;
      };
      block_sum<T> mass, distance;
      const row_sums<T> sums = sum_row<T, Grad>(
          axis, [&]([[maybe_unused]] auto j, [[maybe_unused]] vec<T> x, [[maybe_unused]] vec<T> m) {
            const vec<T> q = weighted_target(j);
            mass.add(axis.valid(q, j));
            // A class of probability 0 adds nothing, even where its logit is -inf.
            distance.add(axis.valid(select<T>(q == zero, zero, q * (m - x)), j));
          });
      const vec<T> total = axis.sum(mass);
      sink.take(sink.sums[c], fma<T>(sums.log(), total, axis.sum(distance)), row, n);

      if constexpr (Grad) {
        const vec<T> factor = vec<T>(T(options.scale)) * sums.inverse();
        const auto again = [&](vec<T> x) { return exp<T>(x - sums.largest); };
        axis.sweep([&](auto j) {
          // total e - q (ties + others), the large terms first: they cancel exactly where p is q.
          const vec<T> q = weighted_target(j);
          const vec<T> large = fma<T>(-q, sums.ties, total * axis.kept(j, again));
          axis.put(j, factor * fma<T>(-q, sums.others, large));
        });
        axis.close();
      }
    };
  }
};

// Negative log-likelihood of rows of log-probabilities. operands: log-probabilities, gradient.
template <class T, bool Grad>
struct nll_indices {
  const index_view& target;
  const row_loss_options<T>& options;
  loss_sink<T>& sink;

  auto chunk(std::ptrdiff_t c) const {
    sink.sums[c] = 0;
    return [this, c](auto& axis, std::ptrdiff_t row, std::ptrdiff_t n) {
      const vec<T> zero = T(0);
      const lane_targets<T> t(target, row, n, axis.rows_at_once > 1, options.ignore_index,
                              options.class_weight);
      const vec<T> loss = -t.weight * axis.at(t.index);
      sink.take(sink.sums[c], select<T>(t.ignored, zero, loss), row, n);
      if constexpr (Grad) {
        axis.sweep([&](auto j) { axis.put(j, zero); });
        axis.put_at(t.index, select<T>(t.ignored, zero, -t.weight * vec<T>(T(options.scale))));
        axis.close();
      }
    };
  }
};

template <class T, class Kernel, std::size_t K>
inline double row_loss(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                       const Kernel& kernel) {
  kernel.sink.sums.assign(shape.chunks(), 0.0);
  for_rows<T>(shape, operands, cost, kernel);
  return tree_sum(kernel.sink.sums.data(), shape.chunks());
}

}  // namespace dlcore
