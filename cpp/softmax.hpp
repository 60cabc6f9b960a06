// softmax and log_softmax over rows, forward and backward, and what cross-entropy shares with them.
#pragma once

#include <limits>

#include "math.hpp"
#include "rows.hpp"

namespace dlcore {

// For the row x: its largest element, how many equal it, and the sum of exp(x - largest) over the
// others. Kept apart, the sum of all, ties + others, loses nothing of `others` when they are tiny:
// log(sum) is log1p(ties - 1 + others), and p - 1 at the largest is -others / sum.
template <class T>
struct row_sums {
  vec<T> largest, ties, others;

  vec<T> inverse() const { return vec<T>(T(1)) / (ties + others); }
  vec<T> log() const { return log1p<T>((ties - vec<T>(T(1))) + others); }
};

// `each(j, x, largest)` may read along; with Keep the exponentials stay behind for axis.kept.
template <class T, bool Keep, class Axis, class F>
inline row_sums<T> sum_row(Axis& axis, const F& each) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  const vec<T> zero = T(0);
  row_sums<T> r;
  r.largest = axis.largest();
  block_sum<T> others;
  vec<int_of<T>> ties = int_of<T>(0);
  axis.sweep([&](auto j) {
    const vec<T> x = axis.in(0, j, -inf);
    const mask<T> is_largest = x == r.largest;
    const vec<T> e = exp<T>(x - r.largest);
    others.add(select<T>(is_largest, zero, e));
    ties -= is_largest;
    if constexpr (Keep) axis.keep(j, e);
    each(j, x, r.largest);
  });
  // A row whose largest is infinite (+inf, or -inf throughout) has no softmax: NaN.
  r.others = axis.sum(others) + (r.largest - r.largest);
  r.ties = axis.count(ties);
  return r;
}

// A kernel without per-chunk state.
template <class F>
struct stateless {
  F run;
  auto chunk(std::ptrdiff_t) const {
    return [this](auto& axis, std::ptrdiff_t, std::ptrdiff_t) {
      run(axis);
      axis.close();
    };
  }
};
template <class F>
stateless(F) -> stateless<F>;

struct softmax {
  static constexpr const char* name = "softmax";

  template <class T>
  static void forward(const row_shape& shape, const std::array<row_view, 2>& operands) {
    for_rows<T>(shape, operands, 1.0, stateless{[](auto& axis) {
                  const row_sums<T> sums = sum_row<T, true>(axis, [](auto, vec<T>, vec<T>) {});
                  const vec<T> r = sums.inverse();
                  axis.sweep([&](auto j) {
                    axis.put(j,
                             axis.kept(j, [&](vec<T> x) { return exp<T>(x - sums.largest); }) * r);
                  });
                }});
  }

  // dx = y (dy - sum(dy y)); inputs dy, y.
  template <class T>
  static void backward(const row_shape& shape, const std::array<row_view, 3>& operands) {
    for_rows<T>(shape, operands, 0.5, stateless{[](auto& axis) {
                  block_sum<T> dot;
                  axis.sweep([&](auto j) { dot.add(axis.in(0, j, T(0)) * axis.in(1, j, T(0))); });
                  const vec<T> total = axis.sum(dot);
                  axis.sweep([&](auto j) {
                    axis.put(j, axis.in(1, j, T(0)) * (axis.in(0, j, T(0)) - total));
                  });
                }});
  }
};

struct log_softmax {
  static constexpr const char* name = "log_softmax";

  template <class T>
  static void forward(const row_shape& shape, const std::array<row_view, 2>& operands) {
    for_rows<T>(
        shape, operands, 1.0, stateless{[](auto& axis) {
          const row_sums<T> sums = sum_row<T, false>(axis, [](auto, vec<T>, vec<T>) {});
          const vec<T> log = sums.log();
          axis.sweep([&](auto j) { axis.put(j, (axis.in(0, j, T(0)) - sums.largest) - log); });
        }});
  }

  // dx = dy - exp(y) sum(dy); inputs dy, y.
  template <class T>
  static void backward(const row_shape& shape, const std::array<row_view, 3>& operands) {
    for_rows<T>(shape, operands, 0.8, stateless{[](auto& axis) {
                  block_sum<T> sum;
                  axis.sweep([&](auto j) { sum.add(axis.in(0, j, T(0))); });
                  const vec<T> total = axis.sum(sum);
                  axis.sweep([&](auto j) {
                    axis.put(j, fma<T>(-exp<T>(axis.in(1, j, T(0))), total, axis.in(0, j, T(0))));
                  });
                }});
  }
};

}  // namespace dlcore
