// Row-wise kernels (softmax, cross-entropy) over arrays of any layout with one class axis.
//
// A kernel is written once, as sweeps over the registers of an "axis", and runs on three of them:
//   short_rows   up to 64 classes: one row a lane, several rows at a time, in a transposed tile
//   long_rows    more classes: one row at a time, classes in the lanes
//   long_lanes   more classes that are not the last axis, (N, C, d1): one row a lane, in place
// Which one is decided by the shape alone, so the bits do not depend on the layout.
#pragma once

#include <limits>
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
  std::ptrdiff_t class_stride, row_stride;
  bool even;  // whether the rows are row_stride bytes apart, near enough for gather_lanes

  void locate(const row_view& v, std::ptrdiff_t row, std::ptrdiff_t n) {
    class_stride = v.class_stride;
    char** to = lane;
    for_each_run(v.rows, row, n, [&](char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
      row_stride = stride;
      even = run == n && std::abs(stride) < (1 << 26);
      for (std::ptrdiff_t i = 0; i < run; ++i) *to++ = p + i * stride;
    });
  }
  vec<int_of<T>> offsets() const { return iota<int_of<T>>() * vec<int_of<T>>(row_stride); }
  T get(std::ptrdiff_t i, std::ptrdiff_t c) const {
    T value;
    std::memcpy(&value, lane[i] + c * class_stride, sizeof value);
    return value;
  }
  void put(std::ptrdiff_t i, std::ptrdiff_t c, T value) const {
    std::memcpy(lane[i] + c * class_stride, &value, sizeof value);
  }
};

// An axis offers
//   sweep(f)            calls f(j) for each register j of the row, in order
//   in(k, j, fill)      input k; lanes beyond the row's end are `fill`
//   put(j, x)           writes the output
//   keep(j, e), kept(j, again)   e again; where it was not worth keeping, again(in(0, j))
//   largest(), sum(s), count(n)  fold what belongs to one row, for all of its lanes
//   at(c), put_at(c, x)          the elements of given classes, one a row
//   per_class(w, j), valid(x, j) weights of the classes; x with 0 beyond the row's end

// What the two axes with one row a lane have in common: nothing is folded over lanes.
template <class T>
struct row_per_lane {
  static constexpr std::ptrdiff_t rows_at_once = vec<T>::size;
  std::ptrdiff_t classes, n;

  template <class F>
  void sweep(const F& f) const {
    for (std::ptrdiff_t c = 0; c < classes; ++c) f(c);
  }
  vec<T> sum(block_sum<T>& s) const { return s.lanes(); }
  vec<T> count(vec<int_of<T>> n) const {
    return __builtin_convertvector(n.v, typename vec<T>::native);
  }
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
      if (rows == w && pointers[k].even) {
        const vec<int_of<T>> offsets = pointers[k].offsets();
        const char* p = pointers[k].lane[0];
        for (std::ptrdiff_t c = 0; c < this->classes; ++c)
          store<T>(tile[k] + c * w, gather_lanes<T>(p + c * pointers[k].class_stride, offsets));
        continue;
      }
      if (rows < w) std::memset(tile[k], 0, sizeof(T) * this->classes * w);
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        for (std::ptrdiff_t c = 0; c < this->classes; ++c)
          tile[k][c * w + i] = pointers[k].get(i, c);
    }
  }
  void close() {
    const lane_pointers<T>& out = pointers[Inputs];
    const std::ptrdiff_t item = sizeof(T);
    if (this->n == w && out.even && out.class_stride == item &&
        out.row_stride == item * this->classes) {
      // Contiguous rows are one run: gathered from the tile, since scattering costs twice as much.
      prepare_transpose();
      T* to = reinterpret_cast<T*>(out.lane[0]);
      for (std::ptrdiff_t c = 0; c < this->classes; ++c)
        store<T>(to + c * w, gather_lanes<T>(tile[Inputs], load(transpose + c * w)));
      return;
    }
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
  vec<T> largest() const {
    constexpr T inf = std::numeric_limits<T>::infinity();
    vec<T> m = -inf;
    for (std::ptrdiff_t c = 0; c < this->classes; ++c) m = max<T>(m, in(0, c, T(0)));
    return m;
  }

 private:
  // Byte offsets in a tile of the elements of w rows, row after row.
  int_of<T> transpose[short_classes * w];
  bool prepared = false;

  void prepare_transpose() {
    if (prepared) return;
    int_of<T>* to = transpose;
    for (std::ptrdiff_t i = 0; i < w; ++i)
      for (std::ptrdiff_t c = 0; c < this->classes; ++c)
        *to++ = int_of<T>((c * w + i) * std::ptrdiff_t(sizeof(T)));
    prepared = true;
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
  vec<T> largest() const {
    constexpr T inf = std::numeric_limits<T>::infinity();
    vec<T> m = -inf;
    for (std::ptrdiff_t c = 0; c < this->classes; ++c) m = max<T>(m, in(0, c, T(0)));
    return m;
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
  // A register of the row from an element on: a whole one, or the first n lanes of the last.
  struct whole_register {
    std::ptrdiff_t at;
  };
  struct last_register {
    std::ptrdiff_t at, n;
  };
  template <class F>
  void sweep(const F& f) const {
    std::ptrdiff_t i = 0;
    for (; i + w <= classes; i += w) f(whole_register{i});
    if (i < classes) f(last_register{i, classes - i});
  }
  template <class Register>
  vec<T> in(int k, Register j, T fill) const {
    return load_from(data[k], j, fill);
  }
  void put(whole_register j, vec<T> x) { store<T>(data[Inputs] + j.at, x); }
  void put(last_register j, vec<T> x) { store_part<T>(data[Inputs] + j.at, x, j.n); }
  template <class Register>
  void keep(Register j, vec<T> e) {
    put(j, e);
  }
  template <class Register, class F>
  vec<T> kept(Register j, const F&) const {
    return load_from(data[Inputs], j, T(0));
  }
  vec<T> at(const std::ptrdiff_t* c) const { return data[0][*c]; }
  void put_at(const std::ptrdiff_t* c, vec<T> x) { data[Inputs][*c] = x.v[0]; }
  vec<T> largest() const {
    // Several maxima at once: each waits for the one before.
    constexpr T inf = std::numeric_limits<T>::infinity();
    constexpr std::ptrdiff_t many = 4;
    vec<T> m[many] = {-inf, -inf, -inf, -inf};
    const T* x = data[0];
    std::ptrdiff_t i = 0;
    for (; i + many * w <= classes; i += many * w)
      for (std::ptrdiff_t u = 0; u < many; ++u) m[u] = max<T>(m[u], load<T>(x + i + u * w));
    for (; i + w <= classes; i += w) m[0] = max<T>(m[0], load<T>(x + i));
    if (i < classes) m[1] = max<T>(m[1], load_part<T>(x + i, classes - i, -inf));
    return reduce_max(max<T>(max<T>(m[0], m[1]), max<T>(m[2], m[3])));
  }
  vec<T> sum(block_sum<T>& s) const { return T(s.total()); }
  vec<T> count(vec<int_of<T>> n) const { return T(reduce_add(n)); }
  template <class Register>
  vec<T> per_class(const T* weights, Register j) const {
    return load_from(weights, j, T(0));
  }
  vec<T> valid(vec<T> x, whole_register) const { return x; }
  vec<T> valid(vec<T> x, last_register j) const { return first_lanes<T>(x, j.n); }

 private:
  static vec<T> load_from(const T* p, whole_register j, T) { return load<T>(p + j.at); }
  static vec<T> load_from(const T* p, last_register j, T fill) {
    return load_part<T>(p + j.at, j.n, fill);
  }
};

// The rows of a chunk of parallel work: a multiple of every register's lanes.
inline std::ptrdiff_t chunk_rows(std::ptrdiff_t classes) {
  return std::max<std::ptrdiff_t>(1, 8192 / std::max<std::ptrdiff_t>(1, classes) / 64) * 64;
}

struct row_shape {
  std::ptrdiff_t rows, classes;
  bool class_axis_last;  // no axis longer than 1 behind the class axis

  std::ptrdiff_t chunk() const {
    return classes > short_classes && class_axis_last ? std::max<std::ptrdiff_t>(1, 8192 / classes)
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
