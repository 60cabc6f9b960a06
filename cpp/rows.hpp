// Row-wise kernels (softmax, cross-entropy) over arrays of any layout with one class axis.
//
// A kernel is written once, as sweeps over the registers of an "axis", and runs on three of them:
//   short_rows   up to 64 classes: one row a lane, several rows at a time, in a transposed tile
//   long_rows    more classes: one row at a time, classes in the lanes
//   long_lanes   more classes that are not the last axis, (N, C, d1): one row a lane, in place
// Which one is decided by the shape alone, so the bits do not depend on the layout.
#pragma once

#include <memory>

#include "layout.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace dlcore {

inline constexpr std::ptrdiff_t short_classes = 64;

// An operand with its class axis taken out: `rows` views the first class of every row.
struct row_view {
  view rows;
  std::ptrdiff_t class_stride = 0;
};

// The addresses of up to one register of rows.
template <class T>
struct lane_pointers {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  char* lane[w];
  std::ptrdiff_t class_stride;

  void locate(const row_view& v, std::ptrdiff_t row, std::ptrdiff_t n) {
    class_stride = v.class_stride;
    char** to = lane;
    for_each_run(v.rows, row, n, [&](char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
      for (std::ptrdiff_t i = 0; i < run; ++i) *to++ = p + i * stride;
    });
  }
  T get(std::ptrdiff_t i, std::ptrdiff_t c) const {
    T value;
    std::memcpy(&value, lane[i] + c * class_stride, sizeof value);
    return value;
  }
  void put(std::ptrdiff_t i, std::ptrdiff_t c, T value) const {
    std::memcpy(lane[i] + c * class_stride, &value, sizeof value);
  }
};

// What the two axes with one row a lane have in common: nothing is folded over lanes.
template <class T>
struct row_per_lane {
  static constexpr std::ptrdiff_t rows_at_once = vec<T>::size;
  std::ptrdiff_t classes, n;

  std::ptrdiff_t registers() const { return classes; }
  vec<T> sum(block_sum<T>& s) const { return s.lanes(); }
  vec<T> largest(vec<T> m) const { return m; }
  vec<T> per_class(const T* w, std::ptrdiff_t c) const { return w[c]; }
  vec<T> valid(vec<T> x, std::ptrdiff_t) const { return x; }
};

template <class T, int Inputs>
struct short_rows : row_per_lane<T> {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  lane_pointers<T> pointers[Inputs + 1];
  T tile[Inputs + 1][short_classes * w];

  template <std::size_t K>
  void open(const std::array<row_view, K>& operands, std::ptrdiff_t row, std::ptrdiff_t rows) {
    this->n = rows;
    for (int k = 0; k <= Inputs; ++k)
      if (operands[k].rows.data) pointers[k].locate(operands[k], row, rows);
    for (int k = 0; k < Inputs; ++k) {
      if (rows < w) std::memset(tile[k], 0, sizeof(T) * this->classes * w);
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        for (std::ptrdiff_t c = 0; c < this->classes; ++c)
          tile[k][c * w + i] = pointers[k].get(i, c);
    }
  }
  void close() {
    for (std::ptrdiff_t i = 0; i < this->n; ++i)
      for (std::ptrdiff_t c = 0; c < this->classes; ++c)
        pointers[Inputs].put(i, c, tile[Inputs][c * w + i]);
  }
  vec<T> in(int k, std::ptrdiff_t c, T) const { return load<T>(tile[k] + c * w); }
  void put(std::ptrdiff_t c, vec<T> x) { store<T>(tile[Inputs] + c * w, x); }
  void keep(std::ptrdiff_t c, vec<T> e) { put(c, e); }
  template <class F>
  vec<T> kept(std::ptrdiff_t c, const F&) const {
    return load<T>(tile[Inputs] + c * w);
  }
  vec<T> at(const std::ptrdiff_t* c) const {
    vec<T> r = T(0);
    for (std::ptrdiff_t i = 0; i < this->n; ++i) r.v[i] = tile[0][c[i] * w + i];
    return r;
  }
  void put_at(const std::ptrdiff_t* c, vec<T> x) {
    for (std::ptrdiff_t i = 0; i < this->n; ++i) tile[Inputs][c[i] * w + i] = x.v[i];
  }
};

template <class T, int Inputs>
struct long_lanes : row_per_lane<T> {
  lane_pointers<T> pointers[Inputs + 1];
  bool contiguous[Inputs + 1];

  template <std::size_t K>
  void open(const std::array<row_view, K>& operands, std::ptrdiff_t row, std::ptrdiff_t rows) {
    this->n = rows;
    for (int k = 0; k <= Inputs; ++k) {
      if (!operands[k].rows.data) continue;
      pointers[k].locate(operands[k], row, rows);
      contiguous[k] = aligned<T>(pointers[k].lane[0]) && pointers[k].class_stride % sizeof(T) == 0;
      for (std::ptrdiff_t i = 1; i < rows; ++i)
        contiguous[k] = contiguous[k] &&
                        pointers[k].lane[i] == pointers[k].lane[0] + i * std::ptrdiff_t(sizeof(T));
    }
  }
  void close() {}
  T* address(int k, std::ptrdiff_t c) const {
    return reinterpret_cast<T*>(pointers[k].lane[0] + c * pointers[k].class_stride);
  }
  vec<T> in(int k, std::ptrdiff_t c, T) const {
    if (contiguous[k])
      return this->n == vec<T>::size ? load<T>(address(k, c))
                                     : load_part<T>(address(k, c), this->n);
    vec<T> r = T(0);
    for (std::ptrdiff_t i = 0; i < this->n; ++i) r.v[i] = pointers[k].get(i, c);
    return r;
  }
  void put(std::ptrdiff_t c, vec<T> x) {
    if (contiguous[Inputs]) {
      if (this->n == vec<T>::size) store<T>(address(Inputs, c), x);
      else store_part<T>(address(Inputs, c), x, this->n);
    } else {
      for (std::ptrdiff_t i = 0; i < this->n; ++i) pointers[Inputs].put(i, c, x.v[i]);
    }
  }
  // Strided writes and reads cost more than a second exponential.
  void keep(std::ptrdiff_t, vec<T>) {}
  template <class F>
  vec<T> kept(std::ptrdiff_t c, const F& again) const {
    return again(in(0, c, T(0)));
  }
  vec<T> at(const std::ptrdiff_t* c) const {
    vec<T> r = T(0);
    for (std::ptrdiff_t i = 0; i < this->n; ++i) r.v[i] = pointers[0].get(i, c[i]);
    return r;
  }
  void put_at(const std::ptrdiff_t* c, vec<T> x) {
    for (std::ptrdiff_t i = 0; i < this->n; ++i) pointers[Inputs].put(i, c[i], x.v[i]);
  }
};

template <class T, int Inputs>
struct long_rows {
  static constexpr std::ptrdiff_t rows_at_once = 1;
  static constexpr std::ptrdiff_t w = vec<T>::size;
  std::ptrdiff_t classes, n;
  const row_view* views[Inputs + 1] = {};
  std::ptrdiff_t row;
  T* data[Inputs + 1];
  bool direct[Inputs + 1];
  std::unique_ptr<T[]> scratch[Inputs + 1];

  template <std::size_t K>
  void open(const std::array<row_view, K>& operands, std::ptrdiff_t first, std::ptrdiff_t) {
    n = 1;
    row = first;
    for (int k = 0; k <= Inputs; ++k) {
      if (!operands[k].rows.data) continue;
      lane_pointers<T> p;
      p.locate(operands[k], row, 1);
      direct[k] = p.class_stride == std::ptrdiff_t(sizeof(T)) && aligned<T>(p.lane[0]);
      if (direct[k]) {
        data[k] = reinterpret_cast<T*>(p.lane[0]);
        continue;
      }
      if (!scratch[k]) scratch[k].reset(new T[classes]);
      data[k] = scratch[k].get();
      if (k < Inputs)
        for (std::ptrdiff_t c = 0; c < classes; ++c) data[k][c] = p.get(0, c);
    }
    views[Inputs] = &operands[Inputs];
  }
  void close() {
    if (direct[Inputs]) return;
    lane_pointers<T> p;
    p.locate(*views[Inputs], row, 1);
    for (std::ptrdiff_t c = 0; c < classes; ++c) p.put(0, c, data[Inputs][c]);
  }
  std::ptrdiff_t registers() const { return ceil_div(classes, w); }
  bool whole(std::ptrdiff_t j) const { return (j + 1) * w <= classes; }
  vec<T> in(int k, std::ptrdiff_t j, T fill) const { return load_from(data[k], j, fill); }
  void put(std::ptrdiff_t j, vec<T> x) {
    if (whole(j)) store<T>(data[Inputs] + j * w, x);
    else store_part<T>(data[Inputs] + j * w, x, classes - j * w);
  }
  void keep(std::ptrdiff_t j, vec<T> e) { put(j, e); }
  template <class F>
  vec<T> kept(std::ptrdiff_t j, const F&) const {
    return load_from(data[Inputs], j, T(0));
  }
  vec<T> at(const std::ptrdiff_t* c) const { return data[0][*c]; }
  void put_at(const std::ptrdiff_t* c, vec<T> x) { data[Inputs][*c] = x.v[0]; }
  vec<T> sum(block_sum<T>& s) const { return T(s.total()); }
  vec<T> largest(vec<T> m) const { return reduce_max(m); }
  vec<T> per_class(const T* weights, std::ptrdiff_t j) const { return load_from(weights, j, T(0)); }
  vec<T> valid(vec<T> x, std::ptrdiff_t j) const {
    return whole(j) ? x : first_lanes<T>(x, classes - j * w);
  }

 private:
  vec<T> load_from(const T* p, std::ptrdiff_t j, T fill) const {
    return whole(j) ? load<T>(p + j * w) : load_part<T>(p + j * w, classes - j * w, fill);
  }
};

// The rows of a chunk of parallel work: a multiple of every register's lanes.
inline std::ptrdiff_t chunk_rows(std::ptrdiff_t classes) {
  return std::max<std::ptrdiff_t>(1, 16384 / std::max<std::ptrdiff_t>(1, classes) / 64) * 64;
}

struct row_shape {
  std::ptrdiff_t rows, classes;
  bool class_axis_last;  // no axis longer than 1 behind the class axis

  std::ptrdiff_t chunk() const {
    return classes > short_classes && class_axis_last ? std::max<std::ptrdiff_t>(1, 16384 / classes)
                                                      : chunk_rows(classes);
  }
  std::ptrdiff_t chunks() const { return ceil_div(rows, chunk()); }
};

template <class Axis, class Operands, class Kernel>
inline void for_rows_on(const row_shape& shape, const Operands& operands, double cost,
                        const Kernel& kernel) {
  parallel_for(shape.chunks(), cost * double(shape.rows) * double(shape.classes),
               [&](std::ptrdiff_t chunk) {
                 Axis axis;
                 axis.classes = shape.classes;
                 const std::ptrdiff_t begin = chunk * shape.chunk();
                 const std::ptrdiff_t end = std::min(shape.rows, begin + shape.chunk());
                 auto run = kernel.chunk(chunk);
                 for (std::ptrdiff_t row = begin; row < end; row += Axis::rows_at_once) {
                   const auto n = std::min<std::ptrdiff_t>(Axis::rows_at_once, end - row);
                   axis.open(operands, row, n);
                   run(axis, row, n);
                 }
               });
}

// Runs the kernel over all rows. operands: the inputs, then the output (no data where there is
// none).
template <class T, std::size_t K, class Kernel>
inline void for_rows(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                     const Kernel& kernel) {
  constexpr int inputs = K - 1;
  if (shape.rows == 0 || shape.classes == 0) return;
  if (shape.classes <= short_classes)
    for_rows_on<short_rows<T, inputs>>(shape, operands, cost, kernel);
  else if (shape.class_axis_last) for_rows_on<long_rows<T, inputs>>(shape, operands, cost, kernel);
  else for_rows_on<long_lanes<T, inputs>>(shape, operands, cost, kernel);
}

}  // namespace dlcore
