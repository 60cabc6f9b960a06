#include "kernels/sparse_product.hpp"

#include <algorithm>
#include <cmath>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

namespace {

// Elements ahead of use for which all weights of a column are asked: the processor cannot know
// which column follows. 1000 rows of text in 2^17 columns took 1.8 times as long without.
constexpr std::ptrdiff_t columns_ahead = 6;

template <class T>
inline const T* weights_of(const column_weights<T>& weights, std::ptrdiff_t column) {
  return weights.first + (weights.place ? weights.place[column] : column) * weights.step;
}

// Registers of outputs that are summed at once: twice as many hold the sums of a block of columns
// and of all.
constexpr int most_registers = 6;

template <class T>
inline T multiply_add(T a, T b, T c) {
  if constexpr (has_fma) return std::fma(a, b, c);
  return a * b + c;
}

// Some registers of outputs, the last of which may have fewer than all `lanes`.
template <class T, class I, int Registers>
void product_tile(const sparse_row<T, I>& x, const column_weights<T>& weights, std::ptrdiff_t first,
                  std::ptrdiff_t terms, const T* start, T least, T* y, std::ptrdiff_t lanes) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  vec<T> all[Registers], sum[Registers];
#pragma GCC unroll 6
  for (int i = 0; i < Registers; ++i) {
    const bool whole = i + 1 < Registers || lanes == w;
    all[i] = sum[i] = T(0);
    if (start) all[i] += whole ? load<T>(start + i * w) : load_part<T>(start + i * w, lanes);
  }
  std::uint32_t begin = 0;
  for (std::ptrdiff_t k = 0; k < x.size; ++k) {
    const std::uint32_t column = std::uint32_t(x.columns[k]);
    if (column - begin >= std::uint32_t(terms)) {
      begin = column / std::uint32_t(terms) * std::uint32_t(terms);
#pragma GCC unroll 6
      for (int i = 0; i < Registers; ++i) all[i] += sum[i], sum[i] = T(0);
    }
    if (first == 0 && k + columns_ahead < x.size) {
      const T* const next = weights_of(weights, x.columns[k + columns_ahead]);
      for (std::ptrdiff_t i = 0; i < weights.step; i += 64 / std::ptrdiff_t(sizeof(T)))
        prefetch(next + i, 0);
    }
    const T* const row = weights_of<T>(weights, column) + first;
    const vec<T> value = x.values[k];
#pragma GCC unroll 6
    for (int i = 0; i < Registers; ++i) {
      const bool part = i + 1 == Registers && lanes < w && !weights.whole;
      sum[i] =
          fma<T>(value, part ? load_part<T>(row + i * w, lanes) : load<T>(row + i * w), sum[i]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < Registers; ++i) {
    const vec<T> result = max<T>(all[i] + sum[i], vec<T>(least));
    if (i + 1 < Registers || lanes == w) store<T>(y + i * w, result);
    else store_part<T>(y + i * w, result, lanes);
  }
}

template <class T, class I, int Registers = most_registers, class... Args>
inline void product_of(std::ptrdiff_t registers, const Args&... args) {
  if constexpr (Registers > 1)
    if (registers < Registers) return product_of<T, I, Registers - 1>(registers, args...);
  product_tile<T, I, Registers>(args...);
}

}  // namespace

template <class T, class I>
void sparse_product(const sparse_row<T, I>& x, const column_weights<T>& weights,
                    std::ptrdiff_t terms, const T* start, T least, T* y, std::ptrdiff_t out) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const std::ptrdiff_t tile = even_chunk(out, most_registers * w, w);
  for (std::ptrdiff_t j = 0; j < out; j += tile) {
    const std::ptrdiff_t columns = std::min(tile, out - j), registers = ceil_div(columns, w);
    product_of<T, I>(registers, x, weights, j, terms, start ? start + j : nullptr, least, y + j,
                     columns - (registers - 1) * w);
  }
}

template <class T, class I>
void add_scaled(const sparse_row<T, I>& x, T dy, T* dw) {
  for (std::ptrdiff_t k = 0; k < x.size; ++k) {
    T& to = dw[x.columns[k]];
    to = multiply_add<T>(dy, x.values[k], to);
  }
}

template <class T>
void add_scaled(const T* dy, T x, std::ptrdiff_t out, T* dw) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> factor = x;
  std::ptrdiff_t j = 0;
  for (; j + w <= out; j += w) store<T>(dw + j, fma<T>(load<T>(dy + j), factor, load<T>(dw + j)));
  if (j == out) return;
  const std::ptrdiff_t rest = out - j;
  const vec<T> own = load_part<T>(dy + j, rest), before = load_part<T>(dw + j, rest);
  store_part<T>(dw + j, fma<T>(own, factor, before), rest);
}

template void add_scaled(const float*, float, std::ptrdiff_t, float*);
template void add_scaled(const double*, double, std::ptrdiff_t, double*);
#define DLCORE_INSTANTIATE(T, I)                                                                  \
  template void sparse_product(const sparse_row<T, I>&, const column_weights<T>&, std::ptrdiff_t, \
                               const T*, T, T*, std::ptrdiff_t);                                  \
  template void add_scaled(const sparse_row<T, I>&, T, T*);
DLCORE_INSTANTIATE(float, std::int32_t)
DLCORE_INSTANTIATE(float, std::int64_t)
DLCORE_INSTANTIATE(double, std::int32_t)
DLCORE_INSTANTIATE(double, std::int64_t)
#undef DLCORE_INSTANTIATE

}  // namespace dlcore
