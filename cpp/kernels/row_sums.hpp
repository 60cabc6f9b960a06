// What softmax and cross-entropy compute of each row.
#pragma once

#include <limits>

#include "kernels/class_axis.hpp"
#include "simd/math.hpp"

namespace dlcore {

// For each row x: its largest element, how many equal it, and the sum of exp(x - largest) over the
// others. Kept apart, the sum of all, ties + others, loses nothing of `others` when they are tiny:
// log(sum) is log1p(ties - 1 + others), and p - 1 at the largest is -others / sum.
template <class T>
struct row_sums {
  row_values<T> largest, ties, others;

  vec<T> inverse(int g) const { return vec<T>(T(1)) / (ties[g] + others[g]); }
  __attribute__((noinline)) vec<T> log(int g) const {
    return log1p<T>((ties[g] - vec<T>(T(1))) + others[g]);
  }
};

// What reads along with sum_rows, one for each part: add(part, j, x, largest) for each register,
// flush() as open_sum needs it, finish(part) after them.
struct no_companion {
  template <class... Args>
  void add(const Args&...) {}
  void flush() {}
  template <class Part>
  void finish(const Part&) {}
};

// With Keep the exponentials stay behind for part.kept. `companion()` makes one for each part.
template <class T, bool Keep, class Axis, class Companion>
inline void sum_rows(Axis& axis, row_sums<T>& sums, const Companion& companion) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  // Lanes without a row are those of a row of one 0: what lay there before could be subnormal, and
  // slow.
  axis.each_group([&](int g) {
    sums.largest[g] = sums.others[g] = T(0);
    sums.ties[g] = T(1);
  });
  row_values<T> lowest;
  axis.each([&](const auto& part) {
    const extremes<T> bounds = part.bounds();
    part.set(sums.largest, bounds.largest);
    part.set(lowest, bounds.lowest);
  });
  axis.each([&](const auto& part) {
    const vec<T> largest = part.of(sums.largest), zero = T(0);
    open_sum<T> others;
    vec<int_of<T>> ties = int_of<T>(0);
    auto along = companion();
    const auto exponentiate = [&](auto exponential) {
      part.sweep(
          [&](auto j) {
            part.expect_next(j);
            const vec<T> x = part.in(0, j, -inf);
            const mask<T> is_largest = x == largest;
            const vec<T> e = exponential(x - largest, j);
            others.add(select<T>(is_largest, zero, e));
            ties -= is_largest;
            if constexpr (Keep) part.keep(j, e);
            along.add(part, j, x, largest);
          },
          [&] {
            others.flush();
            along.flush();
          });
    };
    // Whether no exponential is subnormal is asked once a row, not of each register.
    if (all_at_least<T>(part.of(lowest) - largest, float_traits<T>::exp_normal_min))
      exponentiate([](vec<T> d, auto j) {
        // Beyond the row's end stands -inf.
        if constexpr (std::is_same_v<decltype(j), part_register>) return exp_negative<T>(d);
        else return exp_normal<T>(d);
      });
    else exponentiate([](vec<T> d, auto) { return exp_negative<T>(d); });
    // A row whose largest is infinite (+inf, or -inf throughout) has no softmax: NaN.
    part.set(sums.others, part.sum(others) + (largest - largest));
    part.set(sums.ties, part.count(ties));
    along.finish(part);
  });
}

}  // namespace dlcore
