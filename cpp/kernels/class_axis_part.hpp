// What the axes of class_axis.hpp have in common.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/rows.hpp"
#include "simd/sums.hpp"
#include "simd/vec.hpp"

namespace dlcore {

inline constexpr int max_groups = 8;

template <class T>
inline vec<T> floating(vec<int_of<T>> n) {
  return __builtin_convertvector(n.v, typename vec<T>::native);
}

// The smallest and the largest elements of lanes. NaN is passed over.
template <class T>
struct extremes {
  vec<T> lowest = std::numeric_limits<T>::infinity(), largest = -std::numeric_limits<T>::infinity();

  void add(vec<T> x) {
    lowest = min<T>(lowest, x);
    largest = max<T>(largest, x);
  }
  void add(const extremes& other) {
    lowest = min<T>(lowest, other.lowest);
    largest = max<T>(largest, other.largest);
  }
};

// What belongs to each row of a block, one row a lane.
template <class T>
using row_values = std::array<vec<T>, max_groups>;

// The addresses of up to one register of rows.
template <class T>
struct lane_pointers {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  static constexpr std::ptrdiff_t item = sizeof(T);
  char* first;
  std::ptrdiff_t class_stride, row_stride;
  bool even;      // whether the rows are row_stride bytes apart
  char* lane[w];  // where they are not

  void locate(const row_view& v, std::ptrdiff_t row, std::ptrdiff_t n) {
    class_stride = v.class_stride;
    char** to = lane;
    for_each_run(v.rows, row, n, [&](char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
      even = run == n;
      if (even) {
        first = p;
        row_stride = stride;
      } else {
        for (std::ptrdiff_t i = 0; i < run; ++i) *to++ = p + i * stride;
      }
    });
  }
  char* at(std::ptrdiff_t i, std::ptrdiff_t c) const {
    return (even ? first + i * row_stride : lane[i]) + c * class_stride;
  }
  T get(std::ptrdiff_t i, std::ptrdiff_t c) const {
    T value;
    std::memcpy(&value, at(i, c), sizeof value);
    return value;
  }
  void put(std::ptrdiff_t i, std::ptrdiff_t c, T value) const {
    std::memcpy(at(i, c), &value, sizeof value);
  }
  // The elements of n rows to a tile with one row a lane, and back.
  void read(std::ptrdiff_t n, std::ptrdiff_t classes, T* tile) const {
    each_element(n, classes,
                 [=](std::ptrdiff_t j, const char* p) { std::memcpy(tile + j, p, sizeof(T)); });
  }
  void write(std::ptrdiff_t n, std::ptrdiff_t classes, const T* tile) const {
    each_element(n, classes,
                 [=](std::ptrdiff_t j, char* p) { std::memcpy(p, tile + j, sizeof(T)); });
  }
  // Whether each row is a run of elements.
  bool runs() const {
    return even && class_stride == item && aligned<T>(first) && row_stride % item == 0;
  }
  bool gathers() const { return even && std::abs(row_stride) < (1 << 26); }
  vec<int_of<T>> offsets() const { return iota<int_of<T>>() * vec<int_of<T>>(row_stride); }

 private:
  template <class F>
  void each_element(std::ptrdiff_t n, std::ptrdiff_t classes, const F& f) const {
    const std::ptrdiff_t step = class_stride;
    char* rows[w];
    for (std::ptrdiff_t i = 0; i < n; ++i) rows[i] = at(i, 0);
    for (std::ptrdiff_t c = 0; c < classes; ++c)
      for (std::ptrdiff_t i = 0; i < n; ++i) f(c * w + i, rows[i] + c * step);
  }
};

// The classes of one register of rows, valid for all lanes.
template <class T>
struct lane_labels {
  std::int64_t index[vec<T>::size] = {};
  vec<int_of<T>> lanes;  // the same, as far as it goes: where rows lie in the lanes
};

// What the axes with one row a lane have in common; `Part` is the part.
template <class T, class Part>
struct row_per_lane {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  std::ptrdiff_t classes, n;  // n: rows of the part
  int g;

  vec<T> of(const row_values<T>& v) const { return v[g]; }
  void set(row_values<T>& v, vec<T> x) const { v[g] = x; }
  template <class F, class Flush>
  void sweep(const F& f, const Flush& flush) const {
    std::ptrdiff_t c = 0;
    for (; c + open_sum<T>::block <= classes; flush())
      for (int i = 0; i < open_sum<T>::block; ++i) f(c++);
    for (; c < classes; ++c) f(c);
  }
  template <class F>
  void write(const F& f) const {
    for (std::ptrdiff_t c = 0; c < classes; ++c) part().put(c, f(c));
  }
  extremes<T> bounds() const {
    // Two at once: each waits for the one before.
    extremes<T> even, odd;
    std::ptrdiff_t c = 0;
    for (; c + 2 <= classes; c += 2) {
      even.add(part().in(0, c, T(0)));
      odd.add(part().in(0, c + 1, T(0)));
    }
    if (c < classes) even.add(part().in(0, c, T(0)));
    even.add(odd);
    return even;
  }
  vec<T> sum(open_sum<T>& s) const { return s.lanes(); }
  vec<T> count(vec<int_of<T>> n) const { return floating<T>(n); }
  vec<T> with_label(std::ptrdiff_t c, const lane_labels<T>& labels, vec<T> t, vec<T> x) const {
    return select<T>(labels.lanes == vec<int_of<T>>(int_of<T>(c)), t, x);
  }
  void put_label(const lane_labels<T>&, vec<T>) const {}
  void expect_next(std::ptrdiff_t) const {}
  vec<T> per_class(const T* w, std::ptrdiff_t c) const { return w[c]; }
  vec<T> valid(vec<T> x, std::ptrdiff_t) const { return x; }

 private:
  const Part& part() const { return static_cast<const Part&>(*this); }
};

// What the size of a call asks for: outputs past the caches, inputs bytes_ahead.
struct memory_plan {
  bool stream;
  std::ptrdiff_t ahead;
};

// What the axes have in common.
template <class T>
struct row_block {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  std::ptrdiff_t classes, first_row, n;  // n: rows of the block

  std::ptrdiff_t row(int g) const { return first_row + g * w; }
  std::ptrdiff_t rows(int g) const { return std::min(w, n - g * w); }
  template <class F>
  void each_group(const F& f) const {
    for (int g = 0; g * w < n; ++g) f(g);
  }
};

}  // namespace dlcore
