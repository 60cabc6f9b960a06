#include "kernels/gemm.hpp"

namespace dlcore {

namespace {

// What a whole tile adds, where there is nothing to add.
template <class T>
inline constexpr T zeros[panel_columns<T>] = {};

// Writes a tile that is no whole one, from memory: `rows` rows of `columns`.
template <class T>
__attribute__((noinline)) void finish_part(const T* sum, const tile_target<T>& target,
                                           std::ptrdiff_t rows, std::ptrdiff_t columns) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> least = target.last.least, zero = T(0);
  for (std::ptrdiff_t i = 0; i < rows; ++i)
    for (std::ptrdiff_t j = 0; j < columns; j += w) {
      const std::ptrdiff_t lanes = std::min(w, columns - j);
      const auto read = [&](const T* from, std::ptrdiff_t step) {
        const T* p = from + i * step + j;
        return lanes == w ? load<T>(p) : load_part<T>(p, lanes);
      };
      vec<T> x = load<T>(sum + i * panel_columns<T> + j);
      x = (target.start ? read(target.start, target.start_step) : zero) + x;  // -0 is no more
      x = max<T>(x, least);
      if (target.last.gate)
        x = select<T>(read(target.last.gate, target.last.gate_step) <= zero, zero,
                      x * vec<T>(target.last.factor));
      T* c = target.c + i * target.step + j;
      if (lanes == w) store<T>(c, x);
      else store_part<T>(c, x, lanes);
    }
}

// `rows` <= Rows are stored; `a` holds Rows.
template <class T, int Rows, int Registers>
__attribute__((noinline)) void multiply_tile(std::ptrdiff_t k, const tile_source<T>& source,
                                             const panel<T>& b, const tile_target<T>& target,
                                             std::ptrdiff_t rows) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  vec<T> sum[Rows][Registers];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r) sum[i][r] = T(0);
  const T* p = b.first;
  // Addresses of every third row: the processor adds one and two steps by itself.
  const std::ptrdiff_t row_step = source.row_step;
  const T* a[(Rows + 2) / 3];
#pragma GCC unroll 8
  for (int i = 0; i < (Rows + 2) / 3; ++i) a[i] = source.first + 3 * i * row_step;
  const std::ptrdiff_t ahead = rows_ahead * b.step * std::ptrdiff_t(sizeof(T));
  for (std::ptrdiff_t t = 0; t < k; ++t, p += b.step) {
    vec<T> row[Registers];
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r) prefetch(p + r * w, ahead);
    prefetch(a[0], source.ahead);
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r) row[r] = load<T>(p + r * w);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const vec<T> x = a[i / 3][i % 3 * row_step];
#pragma GCC unroll 2
      for (int r = 0; r < Registers; ++r) sum[i][r] = fma<T>(x, row[r], sum[i][r]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < (Rows + 2) / 3; ++i) a[i] += source.term_step;
  }
  if (rows < Rows || b.columns < Registers * w) {
    T memory[Rows * panel_columns<T>];
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
      for (int r = 0; r < Registers; ++r)
        store<T>(memory + i * panel_columns<T> + r * w, sum[i][r]);
    return finish_part<T>(memory, target, rows, b.columns);
  }
  const vec<T> least = target.last.least, zero = T(0), factor = target.last.factor;
  const T* start = target.start ? target.start : zeros<T>;
  const std::ptrdiff_t start_step = target.start ? target.start_step : 0;
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i, start += start_step)
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r)
      sum[i][r] = max<T>(load<T>(start + r * w) + sum[i][r], least);
  const T* gate = target.last.gate;
  if (gate)
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i, gate += target.last.gate_step)
#pragma GCC unroll 2
      for (int r = 0; r < Registers; ++r)
        sum[i][r] = select<T>(load<T>(gate + r * w) <= zero, zero, sum[i][r] * factor);
  T* c = target.c;
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i, c += target.step)
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r) store<T>(c + r * w, sum[i][r]);
}

template <class T, int Rows = tile_rows>
inline void multiply_by_height(std::ptrdiff_t height, std::ptrdiff_t k, const tile_source<T>& a,
                               const panel<T>& b, const tile_target<T>& target,
                               std::ptrdiff_t rows) {
  if constexpr (Rows > 1) {
    constexpr int less = Rows > height_step ? Rows - height_step : 1;
    if (height < Rows) return multiply_by_height<T, less>(height, k, a, b, target, rows);
  }
  if (b.columns > vec<T>::size) multiply_tile<T, Rows, 2>(k, a, b, target, rows);
  else multiply_tile<T, Rows, 1>(k, a, b, target, rows);
}

}  // namespace

template <class T>
void multiply_rows(std::ptrdiff_t height, std::ptrdiff_t k, const tile_source<T>& a,
                   const panel<T>& b, const tile_target<T>& target, std::ptrdiff_t rows) {
  multiply_by_height<T>(height, k, a, b, target, rows);
}

template void multiply_rows<float>(std::ptrdiff_t, std::ptrdiff_t, const tile_source<float>&,
                                   const panel<float>&, const tile_target<float>&, std::ptrdiff_t);
template void multiply_rows<double>(std::ptrdiff_t, std::ptrdiff_t, const tile_source<double>&,
                                    const panel<double>&, const tile_target<double>&,
                                    std::ptrdiff_t);

}  // namespace dlcore
