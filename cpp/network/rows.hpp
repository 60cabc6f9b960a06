// Rows of a matrix, parameters, and what is said of runs of numbers in them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// Rows of a matrix: `step` elements from one to the next.
template <class T>
struct rows_of {
  T* first;
  std::ptrdiff_t step;

  T* row(std::ptrdiff_t r) const { return first + r * step; }
  rows_of from(std::ptrdiff_t r) const { return {row(r), step}; }
  rows_of<const T> read() const { return {first, step}; }
};

template <class T>
inline void copy_rows(rows_of<const T> from, rows_of<T> to, std::ptrdiff_t n,
                      std::ptrdiff_t width) {
  for (std::ptrdiff_t r = 0; r < n; ++r)
    if (from.row(r) != to.row(r)) std::copy_n(from.row(r), width, to.row(r));
}

// A parameter and its gradient; there is no gradient where it is not trained.
template <class T>
struct tensor {
  T* value = nullptr;
  T* gradient = nullptr;
  std::ptrdiff_t size = 0;
};

// Elements from row to row of a matrix of our own: whole registers, and an odd number of cache
// lines, since rows an even one apart would crowd some sets of the first cache and leave others
// empty. A product that reads a panel of 256 such rows took up to 1.6 times as long.
template <class T>
inline std::ptrdiff_t row_step(std::ptrdiff_t width) {
  constexpr std::ptrdiff_t line = 64 / std::ptrdiff_t(sizeof(T));
  return (ceil_div(width, line) | 1) * line;
}

// Rows of a block: enough of them to use what the caches hold of the weights, and enough blocks for
// several threads. The size is a function of the number of rows alone.
inline std::ptrdiff_t block_of(std::ptrdiff_t rows) {
  return even_chunk(rows, std::clamp<std::ptrdiff_t>(ceil_div(rows, 4), 32, 64), 2);
}

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

// The sum of squares of elements times a factor, in double.
template <class T, bool HasFactor = false>
__attribute__((noinline)) double squares_of(const T* x, std::ptrdiff_t n, double factor = 1) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  vec<double> sum[wide_parts<T>] = {};
  const auto add = [&](vec<T> v) {
    for (int part = 0; part < wide_parts<T>; ++part) {
      const vec<double> d = HasFactor ? widen(v, part) * vec<double>(factor) : widen(v, part);
      sum[part] = fma<double>(d, d, sum[part]);
    }
  };
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) add(load<T>(x + i));
  if (i < n) add(load_part<T>(x + i, n - i));
  double all = 0;
  for (const vec<double>& part : sum) all += reduce_add(part);
  return all;
}

// The largest absolute value of what is taken, inf if there is NaN.
template <class T>
class largest_of {
 public:
  void take(vec<T> x) { most_[0] = larger(most_[0], x); }
  void take(const T* x, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    std::ptrdiff_t i = 0;
    for (; i + 4 * w <= n; i += 4 * w)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) most_[k] = larger(most_[k], load<T>(x + i + k * w));
    for (; i + w <= n; i += w) take(load<T>(x + i));
    if (i < n) take(load_part<T>(x + i, n - i));
  }
  double value() const {
    vec<bits> most = most_[0];
    for (int k = 1; k < 4; ++k) most = larger(most, bit_cast<T>(most_[k]));
    T lanes[vec<T>::size];
    store<T>(lanes, bit_cast<T>(most));
    double all = 0;
    for (T v : lanes) all = v <= all ? all : v == v ? double(v) : HUGE_VAL;
    return all;
  }

 private:
  using bits = int_of<T>;
  // Non-negative numbers compare like the integers of their bits, and NaN is above all others.
  // There are several, so that as many comparisons are in flight.
  vec<bits> most_[4] = {bits(0), bits(0), bits(0), bits(0)};

  static vec<bits> larger(vec<bits> most, vec<T> x) {
    const vec<bits> b = bit_cast<bits>(x) & vec<bits>(std::numeric_limits<bits>::max());
    return select<bits>(b > most, b, most);
  }
};

}  // namespace dlcore
