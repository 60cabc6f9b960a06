// Sums of registers, per lane, with little error.
#pragma once

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

// The same, which counts its terms and flushes by itself.
template <class T>
struct block_sum : open_sum<T> {
  int count = 0;

  void add(vec<T> x) {
    open_sum<T>::add(x);
    if (++count == open_sum<T>::block) flush();
  }
  void flush() {
    open_sum<T>::flush();
    count = 0;
  }
};

}  // namespace dlcore
