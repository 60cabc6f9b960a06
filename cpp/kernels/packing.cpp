#include "kernels/packing.hpp"

namespace dlcore {

namespace {

template <class T>
__attribute__((always_inline)) inline void transpose_block(const T* from, std::ptrdiff_t row_step,
                                                           std::ptrdiff_t n, std::ptrdiff_t width,
                                                           std::ptrdiff_t k, T* to,
                                                           std::ptrdiff_t step, bool room) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (std::ptrdiff_t p = 0; p < k; p += w) {
    const std::ptrdiff_t terms = std::min(w, k - p);
    for (std::ptrdiff_t i = 0; i < width; i += w) {
      vec<T> x[w];
#pragma GCC unroll 16
      for (std::ptrdiff_t r = 0; r < w; ++r) {
        const T* row = from + (i + r) * row_step + p;
        if (i + r >= n) x[r] = T(0);
        else x[r] = terms == w ? load<T>(row) : load_part<T>(row, terms);
      }
      transpose<T>(x);
      // What goes beyond the width is overwritten by the next term, unless that has been here
      // before.
      const bool whole = i + w <= width || (room && width < w);
      T* at = to + p * step + i;
#pragma GCC unroll 16
      for (std::ptrdiff_t q = 0; q < w; ++q) {
        if (q >= terms) break;
        if (whole) store<T>(at + q * step, x[q]);
        else store_part<T>(at + q * step, x[q], width - i);
      }
    }
  }
}

}  // namespace

template <class T>
void transpose_any(const T* from, std::ptrdiff_t row_step, std::ptrdiff_t n, std::ptrdiff_t width,
                   std::ptrdiff_t k, T* to, std::ptrdiff_t step, bool room) {
  transpose_block<T>(from, row_step, n, width, k, to, step, room);
}
template <class T>
void transpose_to_panel(const T* from, std::ptrdiff_t row_step, std::ptrdiff_t n, std::ptrdiff_t k,
                        T* to) {
  transpose_block<T>(from, row_step, n, panel_columns<T>, k, to, panel_columns<T>, true);
}

template <class T>
void pack_matrix(const T* first, std::ptrdiff_t step, std::ptrdiff_t n, std::ptrdiff_t width,
                 std::ptrdiff_t k, T* to) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  // A row is at the most a few lines, and the next ones are too far away for the processor to see.
  const std::ptrdiff_t ahead = 12 * step * std::ptrdiff_t(sizeof(T));
  const auto ask = [=](const T* from) {
    prefetch(from, ahead);
    prefetch(from + n - 1, ahead);
  };
  std::ptrdiff_t p = 0;
  // Before the last row a whole register does, though a tile is narrower: what is too much of a row
  // is read from the one after it, and overwritten by it. Half of the time of the loop below.
  if (n == width && width <= w && step >= w)
    for (; p < k - 1; ++p, to += width) {
      const T* from = first + p * step;
      ask(from);
      store<T>(to, load<T>(from));
    }
  for (; p < k; ++p, to += width) {
    const T* from = first + p * step;
    ask(from);
    for (std::ptrdiff_t i = 0; i < width; i += w) {
      const std::ptrdiff_t there = std::clamp<std::ptrdiff_t>(n - i, 0, w);
      const vec<T> x = there == w ? load<T>(from + i) : load_part<T>(from + i, there);
      if (i + w <= width) store<T>(to + i, x);
      else store_part<T>(to + i, x, width - i);
    }
  }
}

template void transpose_any<float>(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                                   std::ptrdiff_t, float*, std::ptrdiff_t, bool);
template void transpose_to_panel<float>(const float*, std::ptrdiff_t, std::ptrdiff_t,
                                        std::ptrdiff_t, float*);
template void pack_matrix<float>(const float*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                                 std::ptrdiff_t, float*);
template void transpose_any<double>(const double*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                                    std::ptrdiff_t, double*, std::ptrdiff_t, bool);
template void transpose_to_panel<double>(const double*, std::ptrdiff_t, std::ptrdiff_t,
                                         std::ptrdiff_t, double*);
template void pack_matrix<double>(const double*, std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t,
                                  std::ptrdiff_t, double*);

}  // namespace dlcore
