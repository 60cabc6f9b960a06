#include "kernels/column_affine.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

// The map of columns repeated over rows side by side, for runs of elements.
template <class T>
struct map_table {
  const double *subtract, *multiply, *add;  // on a multiple of the register's bytes
  vec<double> low, high;

  vec<double> apply(vec<double> x, std::ptrdiff_t c) const {
    return fma<double>(x - load(subtract + c), load(multiply + c), load(add + c));
  }
  // m elements, the first of which is element c of the period. Whether some are infinite.
  template <bool Clip>
  __attribute__((noinline)) bool run(const T* from, T* to, std::ptrdiff_t m, std::ptrdiff_t c,
                                     std::ptrdiff_t ahead) const {
    constexpr std::ptrdiff_t w = vec<T>::size, wd = vec<double>::size;
    const auto clip = [&](vec<double> y) {
      return Clip ? min<double>(max<double>(y, low), high) : y;
    };
    const vec<T> inf = std::numeric_limits<T>::infinity();
    mask<T> infinite = int_of<T>(0);
    std::ptrdiff_t j = 0;
    vec<double> y[wide_parts<T>];
    for (; j + w <= m; j += w) {
      prefetch(from + j, ahead);
      infinite = infinite | (abs(load<T>(from + j)) == inf);
      for (int part = 0; part < wide_parts<T>; ++part)
        y[part] = clip(apply(load_wide<T>(from + j, part), c + j + part * wd));
      store_narrow<T>(to + j, y);
    }
    if (j == m) return any(infinite);
    const vec<T> x = load_part<T>(from + j, m - j);
    infinite = infinite | (abs(x) == inf);
    T last[w];
    for (int part = 0; part < wide_parts<T>; ++part)
      y[part] = clip(apply(widen(x, part), c + j + part * wd));
    store_narrow<T>(last, y);
    std::memcpy(to + j, last, (m - j) * sizeof(T));
    return any(infinite);
  }
};

// The same for columns that are contiguous, one after the other.
template <class T>
inline bool affine_runs(const column_map& map, bool clip, const std::array<view, 2>& operands,
                        chunk_runner run) {
  const std::ptrdiff_t rows = operands[0].shape[0], columns = operands[0].shape[1];
  const std::ptrdiff_t chunk = even_chunk(rows, chunk_elements, vec<T>::size);
  const std::ptrdiff_t chunks = ceil_div(rows, chunk);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * rows * columns);
  std::atomic<bool> infinite{false};
  run(columns * chunks, nanoseconds<T>(0.2, rows * columns), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t c = i / chunks, begin = i % chunks * chunk;
    const std::ptrdiff_t end = std::min(rows, begin + chunk), n = std::min(rows, tile_elements);
    alignas(64) double constants[3][tile_elements];
    const double* of[] = {map.subtract + c, map.multiply + c, map.add + c};
    for (int k = 0; k < 3; ++k) std::fill_n(constants[k], n, *of[k]);
    const map_table<T> table{constants[0], constants[1], constants[2], map.low, map.high};
    const auto column = [&](const view& v) {
      return reinterpret_cast<T*>(v.data + c * v.strides[1]);
    };
    const T* from = column(operands[0]);
    T* to = column(operands[1]);
    for (std::ptrdiff_t r = begin; r < end; r += tile_elements) {
      const std::ptrdiff_t m = std::min(tile_elements, end - r);
      if (clip ? table.template run<true>(from + r, to + r, m, 0, ahead)
               : table.template run<false>(from + r, to + r, m, 0, ahead))
        infinite.store(true, std::memory_order_relaxed);
    }
  });
  return infinite.load();
}

}  // namespace

template <class T>
bool affine_columns(const column_map& map, std::array<view, 2> operands, chunk_runner run) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const std::ptrdiff_t rows = operands[0].shape[0], columns = operands[0].shape[1];
  if (rows == 0 || columns == 0) return false;
  const bool clip = map.low != -std::numeric_limits<double>::infinity() ||
                    map.high != std::numeric_limits<double>::infinity();
  const auto is_run = [](const view& v) {
    const std::ptrdiff_t item = sizeof(T);
    return aligned<T>(v.data) && v.strides[0] == item && v.strides[1] % item == 0;
  };
  if (columns > 1 && rows > w && is_run(operands[0]) && is_run(operands[1]))
    return affine_runs<T>(map, clip, operands, run);
  // Whole registers of rows side by side, several of them where there are many rows.
  const std::ptrdiff_t whole = w / std::gcd(w, columns);
  std::ptrdiff_t side = 1;
  if (whole * columns <= tile_elements)
    side = whole *
           std::clamp<std::ptrdiff_t>(rows / (8 * whole), 1, tile_elements / (whole * columns));
  else if (columns < tile_elements) side = tile_elements / columns;
  const std::ptrdiff_t period = side * columns, padded = ceil_div(period, w) * w;
  const std::unique_ptr<vec<double>[]> storage(new vec<double>[3 * padded / vec<double>::size]());
  double* tables[3];
  const double* columns_of[] = {map.subtract, map.multiply, map.add};
  for (int k = 0; k < 3; ++k) {
    tables[k] = reinterpret_cast<double*>(storage.get()) + k * padded;
    for (std::ptrdiff_t g = 0; g < side; ++g)
      std::copy(columns_of[k], columns_of[k] + columns, tables[k] + g * columns);
  }
  const map_table<T> table{tables[0], tables[1], tables[2], map.low, map.high};
  const std::ptrdiff_t n = rows * columns;
  collapse(operands);
  const sequence<T> in(operands[0]);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * n);
  const sequence<T> out = output_sequence<T>(operands[1], {&operands[0], 1}, n);
  const std::ptrdiff_t chunk_size = even_chunk(n, std::max(chunk_elements, period), period);
  std::atomic<bool> infinite{false};
  run(ceil_div(n, chunk_size), nanoseconds<T>(0.2, n), [&](std::ptrdiff_t chunk) {
    bool found = false;
    T from_buffer[tile_elements], to_buffer[tile_elements];
    const std::ptrdiff_t end = std::min(n, (chunk + 1) * chunk_size);
    for (std::ptrdiff_t begin = chunk * chunk_size; begin < end; begin += period)
      for (std::ptrdiff_t c = 0; c < period && begin + c < end; c += tile_elements) {
        const std::ptrdiff_t i = begin + c;
        const std::ptrdiff_t m = std::min({tile_elements, period - c, end - i});
        const T* from = in.read(i, m, from_buffer);
        T* to = out.write(i, to_buffer);
        found |= clip ? table.template run<true>(from, to, m, c, ahead)
                      : table.template run<false>(from, to, m, c, ahead);
        out.finish(i, m, to);
      }
    if (found) infinite.store(true, std::memory_order_relaxed);
  });
  return infinite.load();
}

template bool affine_columns<float>(const column_map&, std::array<view, 2>, chunk_runner);
template bool affine_columns<double>(const column_map&, std::array<view, 2>, chunk_runner);

}  // namespace dlcore
