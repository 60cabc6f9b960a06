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
  std::ptrdiff_t period;  // elements; less than a tile only if these are whole registers
  vec<double> low, high;
  static constexpr int at_once = 8;  // periods

  // The map of one register of columns.
  template <bool Clip>
  struct one {
    vec<double> subtract[wide_parts<T>], multiply[wide_parts<T>], add[wide_parts<T>];
    vec<double> low, high;

    one(const map_table& of, std::ptrdiff_t c) : low(of.low), high(of.high) {
      for (int part = 0; part < wide_parts<T>; ++part, c += vec<double>::size) {
        subtract[part] = load(of.subtract + c);
        multiply[part] = load(of.multiply + c);
        add[part] = load(of.add + c);
      }
    }
    vec<double> operator()(vec<double> x, int part) const {
      const vec<double> y = fma<double>(x - subtract[part], multiply[part], add[part]);
      return Clip ? min<double>(max<double>(y, low), high) : y;
    }
  };

  // m elements, a tile at most, the first of which is element c of the period. Whether some are
  // infinite, where that is to be looked for.
  template <bool Clip, bool Look>
  bool run(const T* from, T* to, std::ptrdiff_t m, std::ptrdiff_t c, std::ptrdiff_t ahead) const {
    constexpr std::ptrdiff_t w = vec<T>::size;
    const std::ptrdiff_t whole = m / w * w;
    vec<T> largest = T(0);
    std::ptrdiff_t i = 0;
    for (; i + at_once * period <= whole; i += at_once * period)
      periods<at_once, Clip, Look>(from + i, to + i, period, c, ahead, largest);
    for (; i < whole; i += period)
      periods<1, Clip, Look>(from + i, to + i, std::min(period, whole - i), c, ahead, largest);
    if (whole < m) {
      const one<Clip> map(*this, c + whole % period);
      const vec<T> x = load_part<T>(from + whole, m - whole);
      if (Look) largest = max<T>(largest, abs(x));
      T last[w];
      vec<double> y[wide_parts<T>];
      for (int part = 0; part < wide_parts<T>; ++part) y[part] = map(widen(x, part), part);
      store_narrow<T>(last, y);
      std::memcpy(to + whole, last, (m - whole) * sizeof(T));
    }
    return Look && any(largest == vec<T>(std::numeric_limits<T>::infinity()));
  }
  // The first n elements, whole registers, of so many periods. A few, for which the map is read
  // once, and not more, so that memory is still read in order.
  template <int Count, bool Clip, bool Look>
  void periods(const T* from, T* to, std::ptrdiff_t n, std::ptrdiff_t c, std::ptrdiff_t ahead,
               vec<T>& largest) const {
    const map_table table = *this;  // which no store can change
    for (std::ptrdiff_t j = 0; j < n; j += vec<T>::size, from += vec<T>::size, to += vec<T>::size) {
      const one<Clip> map(table, c + j);
#pragma GCC unroll 8
      for (int k = 0; k < Count; ++k) {
        const T* own = from + k * table.period;
        if (ahead) prefetch(own, ahead);
        if (Look) largest = max<T>(largest, abs(load<T>(own)));
        vec<double> y[wide_parts<T>];
        for (int part = 0; part < wide_parts<T>; ++part)
          y[part] = map(load_wide<T>(own, part), part);
        store_narrow<T>(to + k * table.period, y);
      }
    }
  }
  bool operator()(bool clip, bool look, const T* from, T* to, std::ptrdiff_t m, std::ptrdiff_t c,
                  std::ptrdiff_t ahead) const {
    if (clip)
      return look ? run<true, true>(from, to, m, c, ahead)
                  : run<true, false>(from, to, m, c, ahead);
    return look ? run<false, true>(from, to, m, c, ahead)
                : run<false, false>(from, to, m, c, ahead);
  }
};

// The same for columns that are contiguous, one after the other.
template <class T>
inline bool affine_runs(const column_map& map, bool clip, bool look,
                        const std::array<view, 2>& operands, chunk_runner run) {
  const std::ptrdiff_t rows = operands[0].shape[0], columns = operands[0].shape[1];
  const std::ptrdiff_t chunk = even_chunk(rows, chunk_elements, vec<T>::size);
  const std::ptrdiff_t chunks = ceil_div(rows, chunk);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * rows * columns);
  std::atomic<bool> infinite{false};
  run(columns * chunks, nanoseconds<T>(0.2, rows * columns), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t c = i / chunks, begin = i % chunks * chunk;
    const std::ptrdiff_t end = std::min(rows, begin + chunk);
    constexpr std::ptrdiff_t w = vec<T>::size;
    alignas(register_bytes) double constants[3][w];
    const double* of[] = {map.subtract + c, map.multiply + c, map.add + c};
    for (int k = 0; k < 3; ++k) std::fill_n(constants[k], w, *of[k]);
    const map_table<T> table{constants[0], constants[1], constants[2], w, map.low, map.high};
    const auto column = [&](const view& v) {
      return reinterpret_cast<T*>(v.data + c * v.strides[1]);
    };
    const T* from = column(operands[0]);
    T* to = column(operands[1]);
    for (std::ptrdiff_t r = begin; r < end; r += tile_elements) {
      const std::ptrdiff_t m = std::min(tile_elements, end - r);
      if (table(clip, look, from + r, to + r, m, 0, ahead))
        infinite.store(true, std::memory_order_relaxed);
    }
  });
  return infinite.load();
}

}  // namespace

template <class T>
bool affine_columns(const column_map& map, bool look, std::array<view, 2> operands,
                    chunk_runner run) {
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
    return affine_runs<T>(map, clip, look, operands, run);
  // Rows side by side: as few as fill whole registers, or as a tile has.
  const std::ptrdiff_t whole = w / std::gcd(w, columns);
  const bool is_whole = whole * columns <= tile_elements;
  const std::ptrdiff_t side =
      is_whole ? whole : std::max<std::ptrdiff_t>(1, tile_elements / columns);
  const std::ptrdiff_t period = side * columns, padded = ceil_div(period, w) * w;
  constexpr std::ptrdiff_t at_once = map_table<T>::at_once;
  const std::ptrdiff_t unit = period * (at_once * period <= tile_elements ? at_once : 1);
  const std::ptrdiff_t tile =
      is_whole ? tile_elements / unit * unit : std::min(tile_elements, period);
  const std::unique_ptr<vec<double>[]> storage(new vec<double>[3 * padded / vec<double>::size]());
  double* tables[3];
  const double* columns_of[] = {map.subtract, map.multiply, map.add};
  for (int k = 0; k < 3; ++k) {
    tables[k] = reinterpret_cast<double*>(storage.get()) + k * padded;
    for (std::ptrdiff_t g = 0; g < side; ++g)
      std::copy(columns_of[k], columns_of[k] + columns, tables[k] + g * columns);
  }
  const map_table<T> table{tables[0], tables[1], tables[2], period, map.low, map.high};
  const std::ptrdiff_t n = rows * columns;
  collapse(operands);
  const sequence<T> in(operands[0]);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * n);
  const sequence<T> out = output_sequence<T>(operands[1], {&operands[0], 1}, n);
  const std::ptrdiff_t grain = std::max(period, tile);
  const std::ptrdiff_t chunk_size = even_chunk(n, std::max(chunk_elements, grain), grain);
  std::atomic<bool> infinite{false};
  run(ceil_div(n, chunk_size), nanoseconds<T>(0.2, n), [&](std::ptrdiff_t chunk) {
    bool found = false;
    T from_buffer[tile_elements], to_buffer[tile_elements];
    const std::ptrdiff_t end = std::min(n, (chunk + 1) * chunk_size);
    for (std::ptrdiff_t begin = chunk * chunk_size; begin < end; begin += grain)
      for (std::ptrdiff_t c = 0; c < grain && begin + c < end; c += tile) {
        const std::ptrdiff_t i = begin + c;
        const std::ptrdiff_t m = std::min({tile, grain - c, end - i});
        const T* from = in.read(i, m, from_buffer);
        T* to = out.write(i, to_buffer);
        found |= table(clip, look, from, to, m, c, ahead);
        out.finish(i, m, to);
      }
    if (found) infinite.store(true, std::memory_order_relaxed);
  });
  return infinite.load();
}

template bool affine_columns<float>(const column_map&, bool, std::array<view, 2>, chunk_runner);
template bool affine_columns<double>(const column_map&, bool, std::array<view, 2>, chunk_runner);

}  // namespace dlcore
