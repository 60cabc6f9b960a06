// Up to 64 classes: one row a lane, several registers of rows, in transposed tiles.
#pragma once

#include "kernels/class_axis_part.hpp"
#include "simd/columns.hpp"

namespace dlcore {

// w rows of runs of classes, at least a piece of them, to a tile with one row a lane, and back. The
// last piece ends with the row: it goes over classes of the one before again.
template <class T>
inline void read_rows(const lane_pointers<T>& from, std::ptrdiff_t classes, std::ptrdiff_t ahead,
                      T* to) {
  constexpr std::ptrdiff_t w = vec<T>::size, size = piece_size<T>;
  const T* first = reinterpret_cast<const T*>(from.first);
  const std::ptrdiff_t step = from.row_stride / std::ptrdiff_t(sizeof(T));
  if (ahead)
    for (std::ptrdiff_t i = 0; i < w; ++i)
      for (std::ptrdiff_t c = 0; c < classes; c += 64 / sizeof(T))
        prefetch(first + i * step + c, ahead);
  for (std::ptrdiff_t c = 0; c < classes; c += size) {
    c = std::min(c, classes - size);
    vec<T> x[size];
    load_columns<T, size>(first + c, step, x);
#pragma GCC unroll 4
    for (std::ptrdiff_t k = 0; k < size; ++k) store<T>(to + (c + k) * w, x[k]);
  }
}

template <class T>
inline void write_rows(const lane_pointers<T>& to, std::ptrdiff_t classes, const T* from) {
  constexpr std::ptrdiff_t w = vec<T>::size, size = piece_size<T>;
  T* first = reinterpret_cast<T*>(to.first);
  const std::ptrdiff_t step = to.row_stride / std::ptrdiff_t(sizeof(T));
  for (std::ptrdiff_t c = 0; c < classes; c += size) {
    c = std::min(c, classes - size);
    vec<T> x[size];
#pragma GCC unroll 4
    for (std::ptrdiff_t k = 0; k < size; ++k) x[k] = load<T>(from + (c + k) * w);
    store_columns<T, size>(first + c, step, x);
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
    group_size = classes * w;
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
  int_of<T> transposition[piece_size<T> * w];
  bool prepared = false;

  void prepare_transposition() {
    if (prepared) return;
    int_of<T>* to = transposition;
    for (std::ptrdiff_t i = 0; i < w; ++i)
      for (std::ptrdiff_t c = 0; c < this->classes; ++c)
        *to++ = int_of<T>((c * w + i) * std::ptrdiff_t(sizeof(T)));
    prepared = true;
  }

  // Fewer classes than a piece has are gathered.
  bool by_pieces() const { return this->classes >= piece_size<T>; }

  void read(const lane_pointers<T>& from, std::ptrdiff_t rows, T* to) const {
    const std::ptrdiff_t classes = this->classes;
    if (rows == w && by_pieces() && from.runs()) {
      read_rows(from, classes, ahead, to);
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
    if (rows == w && by_pieces() && to.runs()) {
      write_rows(to, classes, from);
    } else if (rows == w && !by_pieces() && to.runs() &&
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
