// Cross-entropy with class probabilities, apart from that with class indices: two files compile at
// once.
#include "kernels/cross_entropy.hpp"
#include "kernels/row_loss.hpp"
#include "kernels/row_sums.hpp"

namespace dlcore {

namespace {

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
    if (!options.class_weight) return q;
    const vec<T> w = part.per_class(options.class_weight, j), zero = T(0);
    return select<T>(w == zero, zero, q * w);
  }

  // The sums of q and of q (largest - x).
  struct target_sums {
    const cross_entropy_probabilities& of;
    row_values<T>&to_mass, &to_distance;
    open_sum<T> mass, distance;

    void flush() {
      mass.flush();
      distance.flush();
    }

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
    row_values<T> mass, distance, factor, hidden;  // hidden: a mask's bits
    const vec<T> zero = T(0);
    axis.each_group([&](int g) { mass[g] = distance[g] = T(0); });
    sum_rows<T, Grad>(axis, sums, [&] { return target_sums{*this, mass, distance, {}, {}}; });
    axis.each_group([&](int g) {
      // A row of targets that are all 0 adds nothing, be its logits infinite or NaN.
      const mask<T> nothing = (mass[g] == zero) & (distance[g] == zero);
      const vec<T> loss = fma<T>(sums.log(g), mass[g], distance[g]);
      sink.take(chunk, select<T>(nothing, zero, loss), axis.row(g), axis.rows(g));
      factor[g] = vec<T>(T(options.scale)) * sums.inverse(g);
      hidden[g] = bit_cast<T>(nothing);
    });
    if constexpr (Grad)
      axis.each([&](const auto& part) {
        const vec<T> largest = part.of(sums.largest), ties = part.of(sums.ties);
        const vec<T> others = part.of(sums.others), total = part.of(mass), f = part.of(factor);
        const auto again = [&](vec<T> x) { return exp_negative<T>(x - largest); };
        const auto slope = [&](auto j) {
          // total e - q (ties + others), the large terms first: they cancel exactly where p is q.
          const vec<T> q = weighted_target(part, j);
          const vec<T> large = fma<T>(-q, ties, total * part.kept(j, again));
          return f * fma<T>(-q, others, large);
        };
        const mask<T> nothing = bit_cast<int_of<T>>(part.of(hidden));
        if (any(nothing)) part.write([&](auto j) { return select<T>(nothing, zero, slope(j)); });
        else part.write(slope);
      });
  }
};

}  // namespace

template <class T>
double cross_entropy(const row_shape& shape, const std::array<row_view, 3>& operands,
                     const row_loss_options<T>& options, const view& losses, chunk_runner run) {
  loss_sink<T> sink{losses, {}};
  if (operands.back().rows.data)
    return row_loss<T>(shape, operands, 2.0, run,
                       cross_entropy_probabilities<T, true>{options, sink});
  return row_loss<T>(shape, operands, 1.5, run,
                     cross_entropy_probabilities<T, false>{options, sink});
}

template double cross_entropy<float>(const row_shape&, const std::array<row_view, 3>&,
                                     const row_loss_options<float>&, const view&, chunk_runner);
template double cross_entropy<double>(const row_shape&, const std::array<row_view, 3>&,
                                      const row_loss_options<double>&, const view&, chunk_runner);

}  // namespace dlcore
