// Row-wise kernels (softmax, cross-entropy) over arrays of any layout with one class axis.
//
// A kernel is written once, as sweeps over the registers of an "axis", and runs on three of them:
//   short_rows   up to 64 classes: one row a lane, several registers of rows, in transposed tiles
//   long_rows    more classes: classes in the lanes, several rows one after the other
//   long_lanes   more classes that are not the last axis, (N, C, d1): one row a lane
// Which one is decided by the shape alone, so the bits do not depend on the layout.
//
// An axis holds a block of rows. What belongs to a row (its maximum, its sum) lies in row_values,
// one row a lane, on every axis. A kernel goes in stages, each over the whole block before the next
// begins: a stage by itself waits for a chain of results, those of other rows fill the gaps.
//   each(f)        calls f(part) for the parts of the block: registers of rows, or rows
//   each_group(f)  calls f(g) for each register of row_values
//   row(g), rows(g)   the first row and the number of rows in it
// A part offers
//   of(v), set(v, x)             what belongs to its rows
//   sweep(f)                     calls f(j) for each register j of the part, in order
//   in(k, j, fill)               input k; lanes beyond the row's end are `fill`
//   expect_next(j)               asks for what is in this place next, while there is much to
//   compute keep(j, e), kept(j, again)   e again; where it was not worth keeping, again(in(0, j))
//   write(f)                     writes the output, f(j)
//   largest(), sum(s), count(n)  fold what belongs to one row
//   at(labels)                   the elements of given classes, one a row
//   with_label(j, labels, t, x), put_label(labels, t)
//                                put t where the label is: into the register that is to be written,
//                                or afterwards
//   per_class(w, j), valid(x, j) weights of the classes; x with 0 beyond the row's end
#pragma once

#include <limits>
#include <memory>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"
#include "simd/vec.hpp"

namespace dlcore {

inline constexpr std::ptrdiff_t short_classes = 64;
inline constexpr int max_groups = 8;

// What belongs to each row of a block, one row a lane.
template <class T>
using row_values = std::array<vec<T>, max_groups>;

// An operand with its class axis taken out: `rows` views the first class of every row.
struct row_view {
  view rows;
  std::ptrdiff_t class_stride = 0;
};

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
  template <class F>
  void sweep(const F& f) const {
    for (std::ptrdiff_t c = 0; c < classes; ++c) f(c);
  }
  template <class F>
  void write(const F& f) const {
    for (std::ptrdiff_t c = 0; c < classes; ++c) part().put(c, f(c));
  }
  vec<T> largest() const {
    // Several maxima at once: each waits for the one before.
    constexpr T inf = std::numeric_limits<T>::infinity();
    vec<T> even = -inf, odd = -inf;
    std::ptrdiff_t c = 0;
    for (; c + 2 <= classes; c += 2) {
      even = max<T>(even, part().in(0, c, T(0)));
      odd = max<T>(odd, part().in(0, c + 1, T(0)));
    }
    if (c < classes) even = max<T>(even, part().in(0, c, T(0)));
    return max<T>(even, odd);
  }
  vec<T> sum(block_sum<T>& s) const { return s.lanes(); }
  vec<T> count(vec<int_of<T>> n) const {
    return __builtin_convertvector(n.v, typename vec<T>::native);
  }
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

// Squares of w rows and w classes, transposed in registers: w rows of runs of classes to a tile
// with one row a lane, and back.
template <class T>
inline void read_squares(const lane_pointers<T>& from, std::ptrdiff_t classes, std::ptrdiff_t ahead,
                         T* to) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (std::ptrdiff_t c = 0; c < classes; c += w) {
    const std::ptrdiff_t n = std::min(w, classes - c);
    vec<T> x[w];
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w; ++i) {
      const T* p = reinterpret_cast<const T*>(from.first + i * from.row_stride) + c;
      prefetch(p, ahead);
      x[i] = n == w ? load<T>(p) : load_part<T>(p, n);
    }
    transpose<T>(x);
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w; ++i) store<T>(to + (c + i) * w, x[i]);
  }
}

template <class T>
inline void write_squares(const lane_pointers<T>& to, std::ptrdiff_t classes, const T* from) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (std::ptrdiff_t c = 0; c < classes; c += w) {
    const std::ptrdiff_t n = std::min(w, classes - c);
    vec<T> x[w];
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w; ++i) x[i] = load<T>(from + (c + i) * w);
    transpose<T>(x);
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w; ++i) {
      T* p = reinterpret_cast<T*>(to.first + i * to.row_stride) + c;
      if (n == w) store<T>(p, x[i]);
      else store_part<T>(p, x[i], n);
    }
  }
}

template <class T, int Inputs>
struct short_rows : row_block<T> {
  static constexpr std::ptrdiff_t w = vec<T>::size;
  static constexpr std::ptrdiff_t tile_size = 2048;  // elements: all operands fit the first cache
  lane_pointers<T> pointers[max_groups];             // of the output
  T tile[Inputs + 1][tile_size];
  std::ptrdiff_t group_size, ahead;

  static_assert(tile_size >= short_classes * w);

  short_rows(std::ptrdiff_t classes, const memory_plan& plan) : ahead(plan.ahead) {
    this->classes = classes;
    group_size = ceil_div(classes, w) * w * w;  // whole squares
  }
  std::ptrdiff_t block_rows() const {
    return w * std::min<std::ptrdiff_t>(max_groups, tile_size / group_size);
  }

  template <std::size_t K>
  __attribute__((noinline)) void open(const std::array<row_view, K>& operands) {
    for (int k = 0; k < Inputs; ++k)
      this->each_group([&](int g) {
        lane_pointers<T> from;
        from.locate(operands[k], this->row(g), this->rows(g));
        read(from, this->rows(g), tile[k] + g * group_size);
      });
    if (operands[Inputs].rows.data)
      this->each_group(
          [&](int g) { pointers[g].locate(operands[Inputs], this->row(g), this->rows(g)); });
  }
  __attribute__((noinline)) void close() {
    this->each_group(
        [&](int g) { write(pointers[g], this->rows(g), tile[Inputs] + g * group_size); });
  }

  struct part : row_per_lane<T, part> {
    T* tile[Inputs + 1];

    vec<T> in(int k, std::ptrdiff_t c, T) const { return load<T>(tile[k] + c * w); }
    void put(std::ptrdiff_t c, vec<T> x) const { store<T>(tile[Inputs] + c * w, x); }
    void keep(std::ptrdiff_t c, vec<T> e) const { put(c, e); }
    template <class F>
    vec<T> kept(std::ptrdiff_t c, const F&) const {
      return load<T>(tile[Inputs] + c * w);
    }
    vec<T> at(const lane_labels<T>& labels) const {
      using I = int_of<T>;
      return gather_lanes<T>(tile[0],
                             (labels.lanes * vec<I>(I(w)) + iota<I>()) * vec<I>(I(sizeof(T))));
    }
  };
  template <class F>
  void each(const F& f) {
    this->each_group([&](int g) {
      part p;
      p.classes = this->classes, p.n = this->rows(g), p.g = g;
      for (int k = 0; k <= Inputs; ++k) p.tile[k] = tile[k] + g * group_size;
      f(p);
    });
  }

 private:
  // Byte offsets in a tile of the elements of w rows, row after row.
  int_of<T> transposition[w / 2 * w];
  bool prepared = false;

  void prepare_transposition() {
    if (prepared) return;
    int_of<T>* to = transposition;
    for (std::ptrdiff_t i = 0; i < w; ++i)
      for (std::ptrdiff_t c = 0; c < this->classes; ++c)
        *to++ = int_of<T>((c * w + i) * std::ptrdiff_t(sizeof(T)));
    prepared = true;
  }

  // With few classes most of a square would be padding: gathering costs less.
  bool by_squares() const { return this->classes >= w / 2; }

  void read(const lane_pointers<T>& from, std::ptrdiff_t rows, T* to) const {
    const std::ptrdiff_t classes = this->classes;
    if (rows == w && by_squares() && from.runs()) {
      read_squares(from, classes, ahead, to);
    } else if (rows == w && from.gathers()) {
      const vec<int_of<T>> offsets = from.offsets();
      const char* first = from.first;
      const std::ptrdiff_t step = from.class_stride;
      for (std::ptrdiff_t c = 0; c < classes; ++c)
        store<T>(to + c * w, gather_lanes<T>(first + c * step, offsets));
    } else {
      if (rows < w) std::memset(to, 0, sizeof(T) * classes * w);
      from.read(rows, classes, to);
    }
  }
  void write(const lane_pointers<T>& to, std::ptrdiff_t rows, const T* from) {
    const std::ptrdiff_t classes = this->classes;
    if (rows == w && by_squares() && to.runs()) {
      write_squares(to, classes, from);
    } else if (rows == w && !by_squares() && to.runs() &&
               to.row_stride == classes * std::ptrdiff_t(sizeof(T))) {
      // Contiguous rows are one run: gathered from the tile, since scattering costs twice as much.
      prepare_transposition();
      T* run = reinterpret_cast<T*>(to.first);
      for (std::ptrdiff_t c = 0; c < classes; ++c)
        store<T>(run + c * w, gather_lanes<T>(from, load(transposition + c * w)));
    } else {
      to.write(rows, classes, from);
    }
  }
};

template <class T, int Inputs>
struct long_lanes : row_block<T> {
  static constexpr std::ptrdiff_t w = vec<T>::size;

  struct part : row_per_lane<T, part> {
    T* first[Inputs + 1];  // the rows' first class
    std::ptrdiff_t step[Inputs + 1];

    vec<T> in(int k, std::ptrdiff_t c, T) const {
      const T* p = first[k] + c * step[k];
      return this->n == w ? load<T>(p) : load_part<T>(p, this->n);
    }
    void put(std::ptrdiff_t c, vec<T> x) const {
      T* p = first[Inputs] + c * step[Inputs];
      if (this->n == w) store<T>(p, x);
      else store_part<T>(p, x, this->n);
    }
    // Strided writes and reads cost more than a second exponential.
    void keep(std::ptrdiff_t, vec<T>) const {}
    template <class F>
    vec<T> kept(std::ptrdiff_t c, const F& again) const {
      return again(in(0, c, T(0)));
    }
    vec<T> at(const lane_labels<T>& labels) const {
      T lanes[w] = {};
      for (std::ptrdiff_t i = 0; i < this->n; ++i)
        lanes[i] = first[0][labels.index[i] * step[0] + i];
      return load<T>(lanes);
    }
  };
  part only;

  long_lanes(std::ptrdiff_t classes, const memory_plan&) { this->classes = only.classes = classes; }
  std::ptrdiff_t block_rows() const { return w; }

  template <std::size_t K>
  __attribute__((noinline)) void open(const std::array<row_view, K>& operands) {
    only.n = this->n, only.g = 0;
    for (int k = 0; k <= Inputs; ++k) {
      if (!operands[k].rows.data) continue;
      lane_pointers<T>& p = pointers_[k];
      p.locate(operands[k], this->first_row, this->n);
      const std::ptrdiff_t item = sizeof(T);
      bool in_place = aligned<T>(p.at(0, 0)) && p.class_stride % item == 0;
      for (std::ptrdiff_t i = 1; i < this->n; ++i)
        in_place = in_place && p.at(i, 0) == p.at(0, 0) + i * item;
      only.first[k] = in_place ? reinterpret_cast<T*>(p.at(0, 0)) : scratch(k);
      only.step[k] = in_place ? p.class_stride / item : w;
      if (in_place || k == Inputs) continue;
      p.read(this->n, this->classes, only.first[k]);
    }
  }
  __attribute__((noinline)) void close() {
    const T* from = scratch_[Inputs].get();
    if (only.first[Inputs] == from) pointers_[Inputs].write(this->n, this->classes, from);
  }
  template <class F>
  void each(const F& f) {
    f(only);
  }

 private:
  lane_pointers<T> pointers_[Inputs + 1];
  std::unique_ptr<T[]> scratch_[Inputs + 1];

  T* scratch(int k) {
    if (!scratch_[k]) scratch_[k].reset(new T[this->classes * w]);
    return scratch_[k].get();
  }
};

template <class T, int Inputs>
struct long_rows : row_block<T> {
  static constexpr std::ptrdiff_t w = vec<T>::size;

  // A register of the row from an element on: a whole one, or the first n lanes of one.
  struct whole_register {
    std::ptrdiff_t at;
  };
  struct part_register {
    std::ptrdiff_t at, n;
  };

  struct part {
    std::ptrdiff_t classes;
    int g = 0, lane;  // of row_values
    std::ptrdiff_t ahead;
    const T* data[Inputs];
    T *out, *keeping;  // where the output goes, and the exponentials until then
    bool stream;
    std::ptrdiff_t next_row;  // bytes to the row that comes here after this one, or 0

    vec<T> of(const row_values<T>& v) const { return lanes(v)[lane]; }
    void set(row_values<T>& v, vec<T> x) const { lanes(v)[lane] = x.v[0]; }
    template <class F>
    void sweep(const F& f) const {
      std::ptrdiff_t i = 0;
      for (; i + w <= classes; i += w) f(whole_register{i});
      if (i < classes) f(part_register{i, classes - i});
    }
    template <class F>
    void write(const F& f) const {
      // From the first whole register of memory on, where only such can be streamed.
      std::ptrdiff_t head = stream ? std::min(classes, elements_to_register(out)) : 0;
      std::ptrdiff_t i = head;
      for (; i + w <= classes; i += w) {
        const vec<T> x = f(whole_register{i});
        if (stream) store_stream<T>(out + i, x);
        else store<T>(out + i, x);
      }
      // Both ends by the same code: what is left, then the head.
      part_register end{i, classes - i};
      do {
        if (end.n > 0) store_part<T>(out + end.at, f(end), end.n);
        end = {0, std::exchange(head, 0)};
      } while (end.n > 0);
    }
    template <class Register>
    void expect_next(Register j) const {
      if (next_row != 0) prefetch(data[0] + j.at, next_row);
    }
    template <class Register>
    vec<T> in(int k, Register j, T fill) const {
      return load_from(data[k], j, fill);
    }
    void keep(whole_register j, vec<T> e) const { store<T>(keeping + j.at, e); }
    void keep(part_register j, vec<T> e) const { store_part<T>(keeping + j.at, e, j.n); }
    template <class Register, class F>
    vec<T> kept(Register j, const F&) const {
      return load_from(keeping, j, T(0));
    }
    vec<T> at(const lane_labels<T>& labels) const { return data[0][labels.index[lane]]; }
    template <class Register>
    vec<T> with_label(Register, const lane_labels<T>&, vec<T>, vec<T> x) const {
      return x;
    }
    void put_label(const lane_labels<T>& labels, vec<T> t) const {
      out[labels.index[lane]] = t.v[0];
    }
    vec<T> largest() const {
      // Several maxima at once: each waits for the one before.
      constexpr T inf = std::numeric_limits<T>::infinity();
      constexpr std::ptrdiff_t many = 4;
      vec<T> m[many] = {-inf, -inf, -inf, -inf};
      const T* x = data[0];
      std::ptrdiff_t i = 0;
      for (; i + many * w <= classes; i += many * w)
        for (std::ptrdiff_t u = 0; u < many; ++u) {
          prefetch(x + i + u * w, ahead);
          m[u] = max<T>(m[u], load<T>(x + i + u * w));
        }
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
    vec<T> valid(vec<T> x, part_register j) const { return first_lanes<T>(x, j.n); }

   private:
    // The lanes in memory, where single ones are read and written.
    static const T* lanes(const row_values<T>& v) { return reinterpret_cast<const T*>(v.data()); }
    static T* lanes(row_values<T>& v) { return reinterpret_cast<T*>(v.data()); }
    static vec<T> load_from(const T* p, whole_register j, T) { return load<T>(p + j.at); }
    static vec<T> load_from(const T* p, part_register j, T fill) {
      return load_part<T>(p + j.at, j.n, fill);
    }
  };

  long_rows(std::ptrdiff_t classes, const memory_plan& plan) : plan_(plan) {
    this->classes = classes;
  }
  // Rows that fit the first cache with their output.
  std::ptrdiff_t block_rows() const {
    return std::clamp<std::ptrdiff_t>(4096 / this->classes, 1, w);
  }

  template <std::size_t K>
  __attribute__((noinline)) void open(const std::array<row_view, K>& operands) {
    for (int k = 0; k <= Inputs; ++k) {
      if (!operands[k].rows.data) continue;
      lane_pointers<T>& p = pointers_[k];
      p.locate(operands[k], this->first_row, this->n);
      in_place_[k] = p.runs();
      if ((!in_place_[k] || (k == Inputs && plan_.stream)) && !scratch_[k])
        scratch_[k].reset(new T[block_rows() * this->classes]);
      if (in_place_[k] || k == Inputs) continue;
      T* to = scratch_[k].get();
      for (std::ptrdiff_t i = 0; i < this->n; ++i)
        for (std::ptrdiff_t c = 0; c < this->classes; ++c) *to++ = p.get(i, c);
    }
  }
  __attribute__((noinline)) void close() {
    if (in_place_[Inputs]) return;
    const lane_pointers<T>& p = pointers_[Inputs];
    for (std::ptrdiff_t i = 0; i < this->n; ++i) {
      const T* from = scratch_[Inputs].get() + i * this->classes;
      for (std::ptrdiff_t c = 0; c < this->classes; ++c) p.put(i, c, from[c]);
    }
  }
  template <class F>
  void each(const F& f) {
    for (std::ptrdiff_t i = 0; i < this->n; ++i) {
      part p;
      p.classes = this->classes;
      p.lane = int(i);
      p.ahead = plan_.ahead;
      for (int k = 0; k < Inputs; ++k) p.data[k] = row_data(k, i);
      p.out = row_data(Inputs, i);
      p.stream = plan_.stream && in_place_[Inputs];
      p.keeping = p.stream ? scratch_[Inputs].get() + i * this->classes : p.out;
      p.next_row = plan_.ahead && in_place_[0] ? block_rows() * pointers_[0].row_stride : 0;
      f(p);
    }
  }

 private:
  lane_pointers<T> pointers_[Inputs + 1];
  std::unique_ptr<T[]> scratch_[Inputs + 1];
  bool in_place_[Inputs + 1] = {};
  memory_plan plan_;

  T* row_data(int k, std::ptrdiff_t i) const {
    if (in_place_[k]) return reinterpret_cast<T*>(pointers_[k].at(i, 0));
    return scratch_[k] ? scratch_[k].get() + i * this->classes : nullptr;
  }
};

struct row_shape {
  std::ptrdiff_t rows, classes;
  bool class_axis_last;  // no axis longer than 1 behind the class axis

  bool one_by_one() const { return classes > short_classes && class_axis_last; }
  // The rows of a chunk of parallel work; a multiple of every register's lanes where they hold
  // rows.
  std::ptrdiff_t chunk() const {
    const std::ptrdiff_t grain = one_by_one() ? 1 : 64;
    const std::ptrdiff_t most = 8192 / std::max<std::ptrdiff_t>(1, classes) / grain * grain;
    return even_chunk(rows, std::max(grain, most), grain);
  }
  std::ptrdiff_t chunks() const { return ceil_div(rows, chunk()); }
};

template <class Axis, class Operands, class Kernel>
inline void for_rows_on(const row_shape& shape, const Operands& operands, const memory_plan& plan,
                        double nanoseconds, const Kernel& kernel) {
  const std::ptrdiff_t size = shape.chunk();
  parallel_for(shape.chunks(), nanoseconds, [&](std::ptrdiff_t chunk) {
    Axis axis(shape.classes, plan);
    const std::ptrdiff_t begin = chunk * size;
    const std::ptrdiff_t end = std::min(shape.rows, begin + size);
    for (std::ptrdiff_t row = begin; row < end; row += axis.block_rows()) {
      axis.first_row = row;
      axis.n = std::min(axis.block_rows(), end - row);
      axis.open(operands);
      kernel(axis, chunk);
      if (operands.back().rows.data) axis.close();
    }
  });
}

// Runs kernel(axis, chunk) over all rows. operands: the inputs, then the output (no data where
// there is none).
template <class T, std::size_t K, class Kernel>
inline void for_rows(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                     const Kernel& kernel) {
  constexpr int inputs = K - 1;
  if (shape.rows == 0 || shape.classes == 0) return;
  const std::ptrdiff_t bytes = std::ptrdiff_t(sizeof(T) * K) * shape.rows * shape.classes;
  cost *= double(sizeof(T) / sizeof(float)) * double(shape.rows) * double(shape.classes);
  memory_plan plan{worth_streaming(bytes), bytes_ahead(bytes)};
  for (int k = 0; k < inputs; ++k)
    plan.stream = plan.stream && operands[k].rows.data != operands[inputs].rows.data;
  if (shape.classes <= short_classes)
    for_rows_on<short_rows<T, inputs>>(shape, operands, plan, cost, kernel);
  else if (shape.one_by_one())
    for_rows_on<long_rows<T, inputs>>(shape, operands, plan, cost, kernel);
  else for_rows_on<long_lanes<T, inputs>>(shape, operands, plan, cost, kernel);
}

}  // namespace dlcore
