// More than 64 classes: in the lanes, several rows one after the other, or one row a lane where the
// classes are not the last axis.
#pragma once

#include <memory>
#include <utility>

#include "kernels/class_axis_part.hpp"

namespace dlcore {

// A register of a row from an element on: a whole one, or the first n lanes of one.
struct whole_register {
  std::ptrdiff_t at;
};
struct part_register {
  std::ptrdiff_t at, n;
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
    template <class F, class Flush>
    void sweep(const F& f, const Flush& flush) const {
      constexpr std::ptrdiff_t block = open_sum<T>::block * w;
      std::ptrdiff_t i = 0;
      for (; i + block <= classes; i += block) {
#pragma GCC unroll 2
        for (std::ptrdiff_t k = 0; k < block; k += w) f(whole_register{i + k});
        flush();
      }
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
    extremes<T> bounds() const {
      // Several at once: each waits for the one before.
      constexpr std::ptrdiff_t many = 4;
      extremes<T> m[many];
      const T* x = data[0];
      std::ptrdiff_t i = 0;
      for (; i + many * w <= classes; i += many * w)
        for (std::ptrdiff_t u = 0; u < many; ++u) {
          prefetch(x + i + u * w, ahead);
          m[u].add(load<T>(x + i + u * w));
        }
      for (; i + w <= classes; i += w) m[0].add(load<T>(x + i));
      if (i < classes) m[1].add(load_part<T>(x + i, classes - i, x[i]));
      for (std::ptrdiff_t u = 1; u < many; ++u) m[0].add(m[u]);
      return {T(reduce_min(m[0].lowest)), T(reduce_max(m[0].largest))};
    }
    vec<T> sum(open_sum<T>& s) const { return T(s.total()); }
    // The lanes' counts as floating numbers: their sum may be beyond the integers of a lane.
    vec<T> count(vec<int_of<T>> n) const { return reduce_add(floating<T>(n)); }
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

}  // namespace dlcore
