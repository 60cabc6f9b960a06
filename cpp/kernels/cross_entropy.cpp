#include "kernels/cross_entropy.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/cross_entropy_few.hpp"
#include "kernels/index_lanes.hpp"
#include "kernels/row_loss.hpp"
#include "kernels/row_sums.hpp"

namespace dlcore {

namespace {

// The labels of one register of rows. Those whose row weighs nothing are ignored, too, be its
// logits infinite or NaN.
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
  // zero_hides: a label of weight 0 is all that there is of its row's target.
  __attribute__((noinline)) void take(int g, std::ptrdiff_t ignore_index, const T* class_weight,
                                      bool zero_hides) {
    row_targets<T>& t = of[g];
    index_lanes<T> read;
    read.read(index + g * w, ignore_index, t.index);
    t.ignored = read.ignored;
    t.lanes = read.lanes;
    t.weight = T(1);
    if (class_weight) {
      T weights[w];
      for (std::ptrdiff_t i = 0; i < w; ++i) weights[i] = class_weight[t.index[i]];
      t.weight = load<T>(weights);
      if (zero_hides) t.ignored = t.ignored | (t.weight == vec<T>(T(0)));
    }
    t.weight = select<T>(t.ignored, T(0), t.weight);
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
    open_sum<T> sum;

    void flush() { sum.flush(); }
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
      targets.take(g, options.ignore_index, options.class_weight,
                   !smooth || options.weight_sum == 0);
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

}  // namespace

template <class T>
index_summary check_indices(const index_view& target, std::ptrdiff_t rows, std::ptrdiff_t classes,
                            std::ptrdiff_t ignore_index, const T* class_weight, chunk_runner run) {
  constexpr std::ptrdiff_t chunk_size = 16384, tile = 256;
  const std::ptrdiff_t chunks = ceil_div(rows, chunk_size);
  std::vector<double> weights(chunks);
  std::atomic<std::ptrdiff_t> first_bad{PTRDIFF_MAX};
  const auto is_bad = [&](std::int64_t i) {
    return (i != ignore_index) & (std::uint64_t(i) >= std::uint64_t(classes));
  };
  run(chunks, 0.3 * double(rows), [&](std::ptrdiff_t chunk) {
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

template <class T>
double cross_entropy(const row_shape& shape, const std::array<row_view, 2>& operands,
                     const index_view& target, const row_loss_options<T>& options,
                     const view& losses, chunk_runner run) {
  if (has_few_classes(shape, operands, options))
    return cross_entropy_few(shape, operands, target, options, losses, run);
  loss_sink<T> sink{losses, {}};
  if (operands.back().rows.data)
    return row_loss<T>(shape, operands, 0.8, run,
                       cross_entropy_indices<T, true>{target, options, sink});
  return row_loss<T>(shape, operands, 0.6, run,
                     cross_entropy_indices<T, false>{target, options, sink});
}

// Negative log-likelihood of rows of log-probabilities: a loss and a slope a row, so scalars, where
// the vectors of the losses above would be much code for nothing. Without gradient dx has no data.
template <class T>
double nll_loss(const row_shape& shape, const std::array<row_view, 2>& operands,
                const index_view& target, const row_loss_options<T>& options, const view& losses,
                chunk_runner run) {
  const row_view &x = operands[0], &dx = operands[1];
  constexpr std::ptrdiff_t tile = 256;
  const std::ptrdiff_t chunk = ceil_div(shape.chunk(), tile) * tile;
  std::vector<double> sums(ceil_div(shape.rows, chunk));
  const double cost = (dx.rows.data ? 0.3 * double(shape.classes) : 0) + 3;
  run(std::ptrdiff_t(sums.size()), cost * double(shape.rows), [&](std::ptrdiff_t i) {
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
        // What weighs nothing adds nothing, be it infinite or NaN.
        loss[r] = weight == 0 ? T(0) : -weight * value;
        slope[r] = weight == 0 ? T(0) : -weight * T(options.scale);
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

template index_summary check_indices<float>(const index_view&, std::ptrdiff_t, std::ptrdiff_t,
                                            std::ptrdiff_t, const float*, chunk_runner);
template double cross_entropy<float>(const row_shape&, const std::array<row_view, 2>&,
                                     const index_view&, const row_loss_options<float>&, const view&,
                                     chunk_runner);
template double nll_loss<float>(const row_shape&, const std::array<row_view, 2>&, const index_view&,
                                const row_loss_options<float>&, const view&, chunk_runner);
template index_summary check_indices<double>(const index_view&, std::ptrdiff_t, std::ptrdiff_t,
                                             std::ptrdiff_t, const double*, chunk_runner);
template double cross_entropy<double>(const row_shape&, const std::array<row_view, 2>&,
                                      const index_view&, const row_loss_options<double>&,
                                      const view&, chunk_runner);
template double nll_loss<double>(const row_shape&, const std::array<row_view, 2>&,
                                 const index_view&, const row_loss_options<double>&, const view&,
                                 chunk_runner);

}  // namespace dlcore
