// Up to 64 classes: one row a lane, several registers of rows, in transposed tiles.
#pragma once

#include "kernels/class_axis_part.hpp"

namespace dlcore {

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

}  // namespace dlcore
