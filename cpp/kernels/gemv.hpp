// The product of one row and a packed matrix, to the bits of `product`.
//
// A tile of one row has two sums, and each term waits for the one before it. Here those of several
// panels are in flight: with weights in the second cache 2.1 times as fast.
#pragma once

#include <algorithm>

#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"

namespace dlcore {

inline constexpr std::ptrdiff_t panels_of_row = 4;

// The first `columns` of some panels of n, k rows of panel_columns each.
template <class T, int Panels>
inline void row_by_panels(const T* x, std::ptrdiff_t k, const T* panels, std::ptrdiff_t columns,
                          T* y, const T* start, T least) {
  constexpr std::ptrdiff_t w = vec<T>::size, width = panel_columns<T>;
  constexpr int registers = int(width / w);
  const auto lanes = [&](int p, int r) {
    return std::clamp<std::ptrdiff_t>(columns - p * width - r * w, 0, w);
  };
  vec<T> total[Panels][registers];
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) {
      const T* from = start + p * width + r * w;
      total[p][r] = !start || lanes(p, r) == 0 ? vec<T>(T(0))
                    : lanes(p, r) == w         ? load<T>(from)
                                               : load_part<T>(from, lanes(p, r));
    }
  const std::ptrdiff_t most = even_chunk(k, block_terms, 1);
  for (std::ptrdiff_t begin = 0; begin < k; begin += most) {
    const std::ptrdiff_t end = std::min(k, begin + most);
    vec<T> sum[Panels][registers];
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) sum[p][r] = T(0);
    for (std::ptrdiff_t t = begin; t < end; ++t) {
      const vec<T> term = x[t];
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r)
          sum[p][r] = fma<T>(term, load<T>(panels + (p * k + t) * width + r * w), sum[p][r]);
    }
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 4
      for (int r = 0; r < registers; ++r) total[p][r] = total[p][r] + sum[p][r];
  }
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) {
      const vec<T> result = max<T>(total[p][r], least);
      T* to = y + p * width + r * w;
      if (lanes(p, r) == w) store<T>(to, result);
      else if (lanes(p, r) > 0) store_part<T>(to, result, lanes(p, r));
    }
}

// y = factor x + 0, which is what a product of one term is: there is no -0.
template <class T>
inline void scale_run(const T* x, T factor, std::ptrdiff_t n, T* y) {
  map_run<T>([=](vec<T> v) { return fma<T>(vec<T>(factor), v, vec<T>(T(0))); }, y, n, 0, x);
}

// y = start + x B, of n columns, at least `least`. `start`: null for none.
template <class T>
inline void product_of_row(const T* x, std::ptrdiff_t n, std::ptrdiff_t k, const T* panels, T* y,
                           const T* start, T least) {
  constexpr std::ptrdiff_t width = panel_columns<T>;
  std::ptrdiff_t j = 0;
  const auto from = [&](std::ptrdiff_t at) { return start ? start + at : nullptr; };
  for (; n - j > (panels_of_row - 1) * width; j += panels_of_row * width)
    row_by_panels<T, panels_of_row>(x, k, panels + j * k, n - j, y + j, from(j), least);
  for (; j < n; j += width) row_by_panels<T, 1>(x, k, panels + j * k, n - j, y + j, from(j), least);
}

}  // namespace dlcore
