// Column statistics in one pass, and the affine map of columns that both normalizers are.
#pragma once

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

// ---- statistics ---------------------------------------------------------------------------------

// Statistics of columns, kept relative to `shift`, an element of the column: the mean is
// shift + offset, squares is the sum of squared distances from it. For values of 1e8 +- 1 the
// offset keeps the digits that a mean in one double has lost.
struct column_fields {
  double *count, *shift, *offset, *squares, *least, *largest;

  column_fields from(std::ptrdiff_t c) const {
    return {count + c, shift + c, offset + c, squares + c, least + c, largest + c};
  }
};

// Statistics of this many columns.
struct column_sums : column_fields {
  std::ptrdiff_t columns = 0;
  std::unique_ptr<double[]> storage;

  explicit column_sums(std::ptrdiff_t n) : columns(n) {
    // Room for whole registers of any dtype.
    const std::ptrdiff_t room = ceil_div(n, vec<float>::size) * vec<float>::size;
    storage.reset(new double[6 * room]());
    double* p = storage.get();
    for (double** field : {&count, &shift, &offset, &squares, &least, &largest})
      *field = p, p += room;
  }
};

// Adds the statistics of n columns to others of the same columns. Chan, Golub, LeVeque: Updating
// formulae and a pairwise algorithm for computing sample variances.
inline void merge_columns(const column_fields& to, const column_fields& more, std::ptrdiff_t n) {
  using V = vec<double>;
  const V zero = 0.0, one = 1.0;
  for (std::ptrdiff_t i = 0; i < n; i += V::size) {
    const std::ptrdiff_t lanes = n - i;
    const auto get = [&](const double* p) {
      return lanes >= V::size ? load(p + i) : load_part(p + i, lanes);
    };
    const auto put = [&](double* p, V x) {
      if (lanes >= V::size) store(p + i, x);
      else store_part(p + i, x, lanes);
    };
    const V na = get(to.count), nb = get(more.count), n_both = na + nb;
    const mask<double> none = nb == zero, first = na == zero;
    const V shift = get(to.shift), offset = get(to.offset);
    const V other_shift = get(more.shift), other_offset = get(more.offset);
    const V share = nb / select<double>(n_both == zero, one, n_both);
    const V delta = (other_shift - shift) + (other_offset - offset);
    // Infinite values: the mean is what adding them gives, where delta would turn it into NaN.
    const mask<double> finite = delta - delta == zero;
    const auto choose = [&](V own, V merged, V other) {
      return select<double>(none, own, select<double>(first, other, merged));
    };
    const V squares = get(to.squares), other_squares = get(more.squares);
    const V least = get(to.least), other_least = get(more.least);
    const V largest = get(to.largest), other_largest = get(more.largest);
    put(to.count, n_both);
    put(to.shift, choose(shift, shift, other_shift));
    put(to.offset,
        choose(offset, offset + select<double>(finite, delta * share, other_offset), other_offset));
    put(to.squares,
        choose(squares, squares + other_squares + delta * delta * (na * share), other_squares));
    put(to.least, choose(least, min<double>(least, other_least), other_least));
    put(to.largest, choose(largest, max<double>(largest, other_largest), other_largest));
  }
}

// What a block of rows of one register of columns adds up to; sums in double, in parts.
template <class T>
struct column_lanes {
  static constexpr int parts = wide_parts<T>;
  vec<double> count[parts], shift[parts], sum[parts], squares[parts];
  vec<T> least, largest;

  void clear(double n) {
    constexpr T inf = std::numeric_limits<T>::infinity();
    for (int part = 0; part < parts; ++part)
      count[part] = n, shift[part] = sum[part] = squares[part] = 0.0;
    least = inf;
    largest = -inf;
  }
};

// Rows that share a shift. With the shift an element of the block, the variance loses at most a
// factor of this many ULP.
inline constexpr std::ptrdiff_t block_rows = 256;
// Columns of a tile, and elements of a chunk of parallel work.
inline constexpr std::ptrdiff_t tile_columns = 64;
inline constexpr std::ptrdiff_t chunk_statistics = 32768;

// Rows of columns in memory, by registers: the first `n` lanes of each, or Whole ones.
template <class T, bool Whole>
struct register_rows {
  const T* first;
  std::ptrdiff_t step, n, ahead;  // ahead: rows to prefetch

  vec<T> at(std::ptrdiff_t r) const {
    return Whole ? load<T>(first + r * step) : load_part<T>(first + r * step, n);
  }
  vec<double> wide(std::ptrdiff_t r, int part) const {
    return Whole ? load_wide<T>(first + r * step, part) : widen(at(r), part);
  }
  register_rows right(std::ptrdiff_t columns) const { return {first + columns, step, n, ahead}; }
  void prefetch_row(std::ptrdiff_t r) const {
    prefetch(first + r * step, ahead * step * std::ptrdiff_t(sizeof(T)));
  }
};

// Statistics of a block of up to block_rows rows of Count registers of columns, which a row has
// side by side in memory. NaN is passed over.
template <int Count, class T, bool Whole>
inline void block_statistics(const register_rows<T, Whole>& x, std::ptrdiff_t rows,
                             column_lanes<T>* s) {
  constexpr int parts = wide_parts<T>;
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> zero = T(0);
  for (int k = 0; k < Count; ++k) {
    // The shift: the first finite element of each column.
    const auto own = x.right(k * w);
    vec<T> shift = zero;
    mask<T> found = int_of<T>(0);
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> v = own.at(r);
      const mask<T> take = (v - v == zero) & ~found;
      shift = select<T>(take, v, shift);
      found = found | take;
      if (!any(~found)) break;
    }
    s[k].clear(double(rows));
    for (int part = 0; part < parts; ++part) s[k].shift[part] = widen(shift, part);
  }
  // First as if there were no NaN, which shows in the sum.
  column_lanes<T> sums[Count];
  std::copy(s, s + Count, sums);
  for (std::ptrdiff_t r = 0; r < rows; ++r)
#pragma GCC unroll 2
    for (int k = 0; k < Count; ++k) {
      const auto own = x.right(k * w);
      own.prefetch_row(r);
#pragma GCC unroll 2
      for (int part = 0; part < parts; ++part) {
        const vec<double> d = own.wide(r, part) - sums[k].shift[part];
        sums[k].sum[part] += d;
        sums[k].squares[part] = fma<double>(d, d, sums[k].squares[part]);
      }
      const vec<T> v = own.at(r);
      sums[k].least = min<T>(sums[k].least, v);
      sums[k].largest = max<T>(sums[k].largest, v);
    }
  const vec<double> wide_zero = 0.0, one = 1.0;
  for (int k = 0; k < Count; ++k) {
    bool numbers = true;
    for (int part = 0; part < parts; ++part)
      numbers = numbers && !any(sums[k].sum[part] != sums[k].sum[part]);
    if (numbers) {
      s[k] = sums[k];
      continue;
    }
    const auto own = x.right(k * w);
    for (int part = 0; part < parts; ++part) s[k].count[part] = wide_zero;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> v = own.at(r);
      for (int part = 0; part < parts; ++part) {
        const vec<double> wide = widen(v, part), d = wide - s[k].shift[part];
        const mask<double> number = wide == wide;
        s[k].count[part] += select<double>(number, one, wide_zero);
        s[k].sum[part] += select<double>(number, d, wide_zero);
        s[k].squares[part] += select<double>(number, d * d, wide_zero);
      }
      s[k].least = min<T>(s[k].least, v);
      s[k].largest = max<T>(s[k].largest, v);
    }
  }
}

// The sums of one register of columns as statistics.
template <class T>
inline void store_statistics(const column_lanes<T>& s, const column_fields& to) {
  const vec<double> zero = 0.0, one = 1.0;
  for (int part = 0; part < wide_parts<T>; ++part) {
    const column_fields at = to.from(part * vec<double>::size);
    const vec<double> count = s.count[part], sum = s.sum[part];
    const vec<double> offset = sum / select<double>(count == zero, one, count);
    store(at.count, count);
    store(at.shift, s.shift[part]);
    store(at.offset, offset);
    // Not below 0 by rounding; NaN stays.
    store(at.squares, max<double>(s.squares[part] - sum * offset, zero));
    store(at.least, widen(s.least, part));
    store(at.largest, widen(s.largest, part));
  }
}

// Statistics of a block of rows.
template <class T>
inline void take_block(const T* p, std::ptrdiff_t row_step, std::ptrdiff_t rows,
                       std::ptrdiff_t columns, std::ptrdiff_t ahead, const column_sums& block) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  constexpr int at_once = 2;  // as many as the accumulators find registers for
  column_lanes<T> s[at_once];
  std::ptrdiff_t c = 0;
  for (; c + at_once * w <= columns; c += at_once * w) {
    block_statistics<at_once>(register_rows<T, true>{p + c, row_step, w, ahead}, rows, s);
    for (int k = 0; k < at_once; ++k) store_statistics(s[k], block.from(c + k * w));
  }
  for (; c < columns; c += w) {
    const std::ptrdiff_t n = std::min(w, columns - c);
    if (n == w) block_statistics<1>(register_rows<T, true>{p + c, row_step, w, ahead}, rows, s);
    else block_statistics<1>(register_rows<T, false>{p + c, row_step, n, ahead}, rows, s);
    store_statistics(s[0], block.from(c));
  }
}

// Copies the rows [row, row + rows) of the columns [column, column + columns) to a tile.
template <class T>
inline void copy_tile(const view& x, std::ptrdiff_t row, std::ptrdiff_t rows, std::ptrdiff_t column,
                      std::ptrdiff_t columns, T* tile) {
  const char* corner = x.data + row * x.strides[0] + column * x.strides[1];
  const std::ptrdiff_t s0 = x.strides[0], s1 = x.strides[1];
  // Along the shorter stride: a column-major array is read column by column.
  if (std::abs(s0) < std::abs(s1)) {
    for (std::ptrdiff_t c = 0; c < columns; ++c)
      for (std::ptrdiff_t r = 0; r < rows; ++r)
        std::memcpy(tile + r * columns + c, corner + r * s0 + c * s1, sizeof(T));
  } else {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      for (std::ptrdiff_t c = 0; c < columns; ++c)
        std::memcpy(tile + r * columns + c, corner + r * s0 + c * s1, sizeof(T));
  }
}

// How many rows side by side fill whole registers: narrow arrays are read as such wider ones.
template <class T>
inline std::ptrdiff_t rows_side_by_side(std::ptrdiff_t columns) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  return columns <= 2 * w ? w / std::gcd(w, columns) : 1;
}

// The rows [begin, end) of one tile of columns.
template <class T>
inline column_sums tile_statistics(const view& x, std::ptrdiff_t begin, std::ptrdiff_t end,
                                   std::ptrdiff_t column, std::ptrdiff_t columns) {
  const std::ptrdiff_t item = sizeof(T);
  const bool direct = aligned<T>(x.data) && x.strides[1] == item && x.strides[0] % item == 0;
  const bool packed = direct && x.strides[0] == columns * item;
  const std::ptrdiff_t side =
      columns == x.shape[1] ? std::min(rows_side_by_side<T>(columns), end - begin) : 1;
  column_sums sums(side * columns), block(side * columns);
  const std::ptrdiff_t bytes = bytes_ahead(x.size() * item);
  std::unique_ptr<T[]> tile;
  const auto add = [&](std::ptrdiff_t row, std::ptrdiff_t rows, std::ptrdiff_t side_by_side) {
    const T* p = reinterpret_cast<const T*>(x.data + row * x.strides[0]) + column;
    std::ptrdiff_t step = x.strides[0] / item;
    if (!(side_by_side > 1 ? packed : direct)) {
      if (!tile) tile.reset(new T[std::min(block_rows * side, end - begin) * columns]);
      copy_tile<T>(x, row, rows, column, columns, tile.get());
      p = tile.get();
      step = columns;
    }
    const std::ptrdiff_t wide = side_by_side * columns;
    const std::ptrdiff_t row_bytes = std::abs(side_by_side * step * item);
    const std::ptrdiff_t ahead = bytes ? std::max<std::ptrdiff_t>(4, bytes / row_bytes) : 0;
    take_block<T>(p, side_by_side * step, rows / side_by_side, wide, ahead, block);
    merge_columns(sums, block, wide);
  };
  std::ptrdiff_t row = begin;
  while (row + side <= end) {
    const std::ptrdiff_t rows = std::min(block_rows, (end - row) / side) * side;
    add(row, rows, side);
    row += rows;
  }
  if (row < end) add(row, end - row, 1);
  for (std::ptrdiff_t half = side; half > 1; half = ceil_div(half, 2))
    merge_columns(sums, sums.from(ceil_div(half, 2) * columns), half / 2 * columns);
  sums.columns = columns;
  return sums;
}

template <class T>
inline column_sums column_statistics(const view& x) {
  const std::ptrdiff_t rows = x.shape[0], columns = x.shape[1];
  column_sums all(columns);
  if (rows == 0 || columns == 0) return all;
  const std::ptrdiff_t width = columns <= 2 * vec<T>::size ? columns : tile_columns;
  const std::ptrdiff_t column_chunks = ceil_div(columns, width);
  const std::ptrdiff_t chunk_rows = even_chunk(
      rows, ceil_div(chunk_statistics / std::min(width, columns), block_rows) * block_rows,
      block_rows);
  const std::ptrdiff_t row_chunks = ceil_div(rows, chunk_rows);
  std::vector<column_sums> parts;
  for (std::ptrdiff_t i = 0; i < row_chunks * column_chunks; ++i) parts.emplace_back(0);
  parallel_for(row_chunks * column_chunks, nanoseconds<T>(0.12, rows * columns),
               [&](std::ptrdiff_t i) {
                 const std::ptrdiff_t column = i % column_chunks * width;
                 const std::ptrdiff_t begin = i / column_chunks * chunk_rows;
                 parts[i] = tile_statistics<T>(x, begin, std::min(rows, begin + chunk_rows), column,
                                               std::min(width, columns - column));
               });
  // A fixed tree over the chunks of rows.
  for (std::ptrdiff_t step = 1; step < row_chunks; step *= 2)
    for (std::ptrdiff_t r = 0; r + step < row_chunks; r += 2 * step)
      for (std::ptrdiff_t c = 0; c < column_chunks; ++c) {
        const column_sums& part = parts[r * column_chunks + c];
        merge_columns(part, parts[(r + step) * column_chunks + c], part.columns);
      }
  for (std::ptrdiff_t c = 0; c < column_chunks; ++c)
    merge_columns(all.from(c * width), parts[c], parts[c].columns);
  return all;
}

// ---- affine maps --------------------------------------------------------------------------------

// y = (x - subtract) multiply + add for each column, then clipped to [low, high]; in double,
// rounded once to T. NaN stays.
struct column_map {
  const double *subtract, *multiply, *add;  // one a column
  double low, high;
};

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
inline bool affine_runs(const column_map& map, bool clip, const std::array<view, 2>& operands) {
  const std::ptrdiff_t rows = operands[0].shape[0], columns = operands[0].shape[1];
  const std::ptrdiff_t chunk = even_chunk(rows, chunk_elements, vec<T>::size);
  const std::ptrdiff_t chunks = ceil_div(rows, chunk);
  const std::ptrdiff_t ahead = bytes_ahead(std::ptrdiff_t(2 * sizeof(T)) * rows * columns);
  std::atomic<bool> infinite{false};
  parallel_for(columns * chunks, nanoseconds<T>(0.2, rows * columns), [&](std::ptrdiff_t i) {
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

// Whether some elements are infinite.
template <class T>
inline bool affine_columns(const column_map& map, std::array<view, 2> operands) {
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
    return affine_runs<T>(map, clip, operands);
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
  parallel_for(ceil_div(n, chunk_size), nanoseconds<T>(0.2, n), [&](std::ptrdiff_t chunk) {
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

}  // namespace dlcore
