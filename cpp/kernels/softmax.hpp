// softmax and log_softmax over rows, forward and backward, and what cross-entropy shares with them.
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
// finish(part) after them.
struct no_companion {
  template <class... Args>
  void add(const Args&...) {}
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
  axis.each([&](const auto& part) { part.set(sums.largest, part.largest()); });
  axis.each([&](const auto& part) {
    const vec<T> largest = part.of(sums.largest), zero = T(0);
    block_sum<T> others;
    vec<int_of<T>> ties = int_of<T>(0);
    auto along = companion();
    part.sweep([&](auto j) {
      part.expect_next(j);
      const vec<T> x = part.in(0, j, -inf);
      const mask<T> is_largest = x == largest;
      const vec<T> e = exp_negative<T>(x - largest);
      others.add(select<T>(is_largest, zero, e));
      ties -= is_largest;
      if constexpr (Keep) part.keep(j, e);
      along.add(part, j, x, largest);
    });
    // A row whose largest is infinite (+inf, or -inf throughout) has no softmax: NaN.
    part.set(sums.others, part.sum(others) + (largest - largest));
    part.set(sums.ties, part.count(ties));
    along.finish(part);
  });
}

struct softmax {
  static constexpr const char* name = "softmax";

  template <class T>
  static void forward(const row_shape& shape, const std::array<row_view, 2>& operands) {
    for_rows<T>(shape, operands, 0.6, [](auto& axis, std::ptrdiff_t) {
      row_sums<T> sums;
      sum_rows<T, true>(axis, sums, [] { return no_companion(); });
      row_values<T> inverse;
      axis.each_group([&](int g) { inverse[g] = sums.inverse(g); });
      axis.each([&](const auto& part) {
        const vec<T> largest = part.of(sums.largest), r = part.of(inverse);
        const auto again = [&](vec<T> x) { return exp_negative<T>(x - largest); };
        part.write([&](auto j) { return part.kept(j, again) * r; });
      });
    });
  }

  // dx = y (dy - sum(dy y)); inputs dy, y.
  template <class T>
  static void backward(const row_shape& shape, const std::array<row_view, 3>& operands) {
    for_rows<T>(shape, operands, 0.5, [](auto& axis, std::ptrdiff_t) {
      axis.each([](const auto& part) {
        block_sum<T> dot;
        part.sweep([&](auto j) { dot.add(part.in(0, j, T(0)) * part.in(1, j, T(0))); });
        const vec<T> total = part.sum(dot);
        part.write([&](auto j) { return part.in(1, j, T(0)) * (part.in(0, j, T(0)) - total); });
      });
    });
  }
};

struct log_softmax {
  static constexpr const char* name = "log_softmax";

  template <class T>
  static void forward(const row_shape& shape, const std::array<row_view, 2>& operands) {
    for_rows<T>(shape, operands, 0.6, [](auto& axis, std::ptrdiff_t) {
      row_sums<T> sums;
      sum_rows<T, false>(axis, sums, [] { return no_companion(); });
      row_values<T> log;
      axis.each_group([&](int g) { log[g] = sums.log(g); });
      axis.each([&](const auto& part) {
        const vec<T> largest = part.of(sums.largest), l = part.of(log);
        part.write([&](auto j) { return (part.in(0, j, T(0)) - largest) - l; });
      });
    });
  }

  // dx = dy - exp(y) sum(dy); inputs dy, y.
  template <class T>
  static void backward(const row_shape& shape, const std::array<row_view, 3>& operands) {
    for_rows<T>(shape, operands, 0.8, [](auto& axis, std::ptrdiff_t) {
      axis.each([](const auto& part) {
        block_sum<T> sum;
        part.sweep([&](auto j) { sum.add(part.in(0, j, T(0))); });
        const vec<T> total = part.sum(sum);
        part.write([&](auto j) {
          return fma<T>(-exp<T>(part.in(1, j, T(0))), total, part.in(0, j, T(0)));
        });
      });
    });
  }
};

}  // namespace dlcore
