// Sums of registers, per lane, with little error.
#pragma once

#include <array>

#include "simd/vec.hpp"

namespace dlcore {

// Per-lane sums in double, whatever T is.
template <class T>
struct wide_sum {
  vec<double> parts[wide_parts<T>];

  wide_sum() {
    for (auto& p : parts) p = vec<double>(0.0);
  }
  // By registers: compilers copy in smaller pieces, for which the loads that follow have to wait.
  wide_sum(const wide_sum& s) { *this = s; }
  wide_sum& operator=(const wide_sum& s) {
    for (int i = 0; i < wide_parts<T>; ++i) parts[i] = s.parts[i];
    return *this;
  }
  void add(vec<T> x) {
    for (int i = 0; i < wide_parts<T>; ++i) parts[i] += widen(x, i);
  }
  // The sum of each lane, rounded to T.
  vec<T> lanes() const {
    if constexpr (std::is_same_v<T, double>) return parts[0];
    else return narrow(parts[0], parts[1]);
  }
  double total() const {
    vec<double> sum = parts[0];
    for (int i = 1; i < wide_parts<T>; ++i) sum += parts[i];
    return reduce_add(sum);
  }
};

// Per-lane sums of doubles to the last digit (Kahan: Further remarks on reducing truncation errors,
// Communications of the ACM 8, 1965).
struct compensated_sum {
  vec<double> sum = 0.0, excess = 0.0;  // by how much the sum is too large

  void add(vec<double> x) {
    const vec<double> rest = x - excess, next = sum + rest;
    excess = (next - sum) - rest;
    sum = next;
  }
  double total() const { return reduce_add(sum - excess); }
};

// A sum, of numbers or per lane, in which the order of its terms does not show: what an addition
// rounds away is kept (Knuth: The art of computer programming 2, 4.2.2).
template <class V>
struct pair_sum {
  V sum = 0.0, low = 0.0;

  void add(V x) {
    const V next = sum + x, added = next - sum;
    low = low + ((sum - (next - added)) + (x - added));
    sum = next;
  }
  void add(const pair_sum& other) {
    add(other.sum);
    low = low + other.low;
  }
  V value() const { return sum + low; }
};

// Per-lane sums that add in T, fast, but no more than `block` terms before they go to double: the
// caller flushes.
template <class T>
struct open_sum {
  static constexpr int block = 16;
  wide_sum<T> flushed;
  vec<T> open = T(0);

  open_sum() = default;
  explicit open_sum(const wide_sum<T>& begin) : flushed(begin) {}

  void add(vec<T> x) { open += x; }
  void flush() {
    flushed.add(open);
    open = T(0);
  }
  vec<T> lanes() {
    flush();
    return flushed.lanes();
  }
  double total() {
    flush();
    return flushed.total();
  }
};

// N sums each of K registers side by side, of terms(i, k) for i below count, an array of N, and of
// last(count, k) if `has_last`: as by open_sum, in as many chains, since one by itself waits for
// the latency of each addition.
template <class T, int N, int K>
struct block_sums {
  wide_sum<T> of[N][K];

  template <class Terms, class Last>
  block_sums(std::ptrdiff_t count, const Terms& terms, bool has_last, const Last& last) {
    constexpr std::ptrdiff_t block = open_sum<T>::block;
    for (std::ptrdiff_t i = 0; i < count + has_last;) {
      vec<T> open[N][K];
      for (auto& row : open)
        for (vec<T>& sum : row) sum = T(0);
      const auto add = [&](const auto& of_register) {
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) {
          const std::array<vec<T>, N> x = of_register(i, k);
#pragma GCC unroll 2
          for (int n = 0; n < N; ++n) open[n][k] += x[n];
        }
      };
      const std::ptrdiff_t full = i + block;
      for (const std::ptrdiff_t end = std::min(count, full); i < end; ++i) add(terms);
      if (has_last && i == count && i < full) add(last), ++i;
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) of[n][k].add(open[n][k]);
    }
  }
  template <class Terms>
  block_sums(std::ptrdiff_t count, const Terms& terms) : block_sums(count, terms, false, terms) {}
};

}  // namespace dlcore
