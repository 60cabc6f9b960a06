// Column statistics in one pass, and the affine map of columns that both normalizers are.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "layout.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace dlcore {

// Statistics of each of `columns` columns, kept relative to `shift`, an element of the column: the
// mean is shift + offset, squares is the sum of squared distances from it. For values of 1e8 +- 1
// the offset keeps the digits that a mean in one double has lost.
struct column_sums {
  std::ptrdiff_t columns = 0;
  std::unique_ptr<double[]> storage;
  double *count, *shift, *offset, *squares, *least, *largest;

  explicit column_sums(std::ptrdiff_t n) : columns(n), storage(new double[6 * n]) {
    double* p = storage.get();
    for (double** field : {&count, &shift, &offset, &squares, &least, &largest}) *field = p, p += n;
    std::fill(storage.get(), storage.get() + 6 * n, 0.0);
  }

  // Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
  // variances.
  void merge(const column_sums& other) {
    for (std::ptrdiff_t c = 0; c < columns; ++c) {
      const double na = count[c], nb = other.count[c], n = na + nb;
      if (nb == 0) continue;
      if (na == 0) {
        count[c] = nb, shift[c] = other.shift[c], offset[c] = other.offset[c];
        squares[c] = other.squares[c], least[c] = other.least[c], largest[c] = other.largest[c];
        continue;
      }
      const double delta = (other.shift[c] - shift[c]) + (other.offset[c] - offset[c]);
      // Infinite values: the mean is what adding them gives, where delta would turn it into NaN.
      offset[c] += std::isfinite(delta) ? delta * (nb / n) : other.offset[c];
      squares[c] += other.squares[c] + delta * delta * (na * (nb / n));
      count[c] = n;
      least[c] = std::min(least[c], other.least[c]);
      largest[c] = std::max(largest[c], other.largest[c]);
    }
  }
};

// What a block of rows of one register of columns adds up to; sums in double, in parts.
template <class T>
struct column_lanes {
  static constexpr int parts = wide_parts<T>;
  vec<double> count[parts], shift[parts], sum[parts], squares[parts];
  vec<T> least, largest;

  explicit column_lanes(double n) {
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
// Rows of a chunk of parallel work.
inline constexpr std::ptrdiff_t chunk_block_rows = 16 * block_rows;
// Columns of a tile.
inline constexpr std::ptrdiff_t tile_columns = 64;

// Statistics of a block of up to block_rows rows of one register of columns; `at(r)` gives row r.
// NaN is passed over.
template <class T, class At>
inline column_lanes<T> block_statistics(std::ptrdiff_t rows, const At& at) {
  constexpr int parts = wide_parts<T>;
  const vec<T> zero = T(0);
  // The shift: the first finite element of each column.
  vec<T> shift = zero;
  mask<T> found = int_of<T>(0);
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const vec<T> x = at(r);
    const mask<T> take = (x - x == zero) & ~found;
    shift = select<T>(take, x, shift);
    found = found | take;
    if (!any(~found)) break;
  }
  // First as if there were no NaN, which shows in the sum.
  column_lanes<T> s{double(rows)};
  for (int part = 0; part < parts; ++part) s.shift[part] = widen(shift, part);
  const column_lanes<T> empty = s;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const vec<T> x = at(r);
    for (int part = 0; part < parts; ++part) {
      const vec<double> d = widen(x, part) - s.shift[part];
      s.sum[part] += d;
      s.squares[part] = fma<double>(d, d, s.squares[part]);
    }
    s.least = min<T>(s.least, x);
    s.largest = max<T>(s.largest, x);
  }
  bool numbers = true;
  for (int part = 0; part < parts; ++part) numbers = numbers && !any(s.sum[part] != s.sum[part]);
  if (numbers) return s;
  const vec<double> wide_zero = 0.0, one = 1.0;
  s = empty;
  for (int part = 0; part < parts; ++part) s.count[part] = wide_zero;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const vec<T> x = at(r);
    for (int part = 0; part < parts; ++part) {
      const vec<double> wide = widen(x, part), d = wide - s.shift[part];
      const mask<double> number = wide == wide;
      s.count[part] += select<double>(number, one, wide_zero);
      s.sum[part] += select<double>(number, d, wide_zero);
      s.squares[part] += select<double>(number, d * d, wide_zero);
    }
    s.least = min<T>(s.least, x);
    s.largest = max<T>(s.largest, x);
  }
  return s;
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
        std::memcpy(tile + r * tile_columns + c, corner + r * s0 + c * s1, sizeof(T));
  } else {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      for (std::ptrdiff_t c = 0; c < columns; ++c)
        std::memcpy(tile + r * tile_columns + c, corner + r * s0 + c * s1, sizeof(T));
  }
}

// Adds a block of rows of up to tile_columns columns to `sums`, whose columns start at `column`.
template <class T>
inline void add_block(const T* p, std::ptrdiff_t row_step, std::ptrdiff_t rows,
                      std::ptrdiff_t columns, column_sums& block) {
  constexpr std::ptrdiff_t w = vec<T>::size, wd = vec<double>::size;
  for (std::ptrdiff_t c = 0; c < columns; c += w) {
    const std::ptrdiff_t n = std::min(w, columns - c);
    const T* corner = p + c;
    const column_lanes<T> s =
        n == w ? block_statistics<T>(
                     rows, [&](std::ptrdiff_t r) { return load<T>(corner + r * row_step); })
               : block_statistics<T>(rows, [&](std::ptrdiff_t r) {
                   return load_part<T>(corner + r * row_step, n);
                 });
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const int part = int(i / wd);
      const double count = s.count[part].v[i % wd], sum = s.sum[part].v[i % wd];
      const double offset = count > 0 ? sum / count : 0;
      block.count[c + i] = count;
      block.shift[c + i] = s.shift[part].v[i % wd];
      block.offset[c + i] = offset;
      // Not below 0 by rounding; NaN stays.
      const double squares = s.squares[part].v[i % wd] - sum * offset;
      block.squares[c + i] = squares < 0 ? 0 : squares;
      block.least[c + i] = double(s.least.v[i]);
      block.largest[c + i] = double(s.largest.v[i]);
    }
  }
}

template <class T>
inline column_sums column_statistics(const view& x) {
  const std::ptrdiff_t rows = x.shape[0], columns = x.shape[1];
  const std::ptrdiff_t row_chunks = ceil_div(rows, chunk_block_rows);
  const std::ptrdiff_t column_chunks = ceil_div(columns, tile_columns);
  const bool direct = aligned<T>(x.data) && x.strides[1] == std::ptrdiff_t(sizeof(T)) &&
                      x.strides[0] % std::ptrdiff_t(sizeof(T)) == 0;
  std::vector<column_sums> parts;
  for (std::ptrdiff_t i = 0; i < row_chunks * column_chunks; ++i)
    parts.emplace_back(std::min(tile_columns, columns - i % column_chunks * tile_columns));
  parallel_for(row_chunks * column_chunks, 0.4 * double(rows) * double(columns),
               [&](std::ptrdiff_t i) {
                 const std::ptrdiff_t column = i % column_chunks * tile_columns;
                 const std::ptrdiff_t n = std::min(tile_columns, columns - column);
                 const std::ptrdiff_t begin = i / column_chunks * chunk_block_rows;
                 const std::ptrdiff_t end = std::min(rows, begin + chunk_block_rows);
                 column_sums block(n);
                 std::unique_ptr<T[]> tile(direct ? nullptr : new T[block_rows * tile_columns]);
                 for (std::ptrdiff_t row = begin; row < end; row += block_rows) {
                   const std::ptrdiff_t m = std::min(block_rows, end - row);
                   if (direct) {
                     const char* corner = x.data + row * x.strides[0] + column * x.strides[1];
                     add_block<T>(reinterpret_cast<const T*>(corner),
                                  x.strides[0] / std::ptrdiff_t(sizeof(T)), m, n, block);
                   } else {
                     copy_tile<T>(x, row, m, column, n, tile.get());
                     add_block<T>(tile.get(), tile_columns, m, n, block);
                   }
                   parts[i].merge(block);
                 }
               });
  // A fixed tree over the chunks of rows.
  for (std::ptrdiff_t step = 1; step < row_chunks; step *= 2)
    for (std::ptrdiff_t r = 0; r + step < row_chunks; r += 2 * step)
      for (std::ptrdiff_t c = 0; c < column_chunks; ++c)
        parts[r * column_chunks + c].merge(parts[(r + step) * column_chunks + c]);
  column_sums all(columns);
  for (std::ptrdiff_t c = 0; c < column_chunks && row_chunks > 0; ++c) {
    const column_sums& part = parts[c];
    for (std::ptrdiff_t k = 0; k < part.columns; ++k) {
      const std::ptrdiff_t to = c * tile_columns + k;
      all.count[to] = part.count[k], all.shift[to] = part.shift[k];
      all.offset[to] = part.offset[k], all.squares[to] = part.squares[k];
      all.least[to] = part.least[k], all.largest[to] = part.largest[k];
    }
  }
  return all;
}

// y = (x - subtract) multiply + add for each column, then clipped to [low, high]; in double,
// rounded once to T. NaN stays.
struct column_map {
  const double *subtract, *multiply, *add;  // one a column
  double low, high;
};

template <class T>
inline vec<T> map_columns(vec<T> x, const double* subtract, const double* multiply,
                          const double* add, vec<double> low, vec<double> high) {
  constexpr std::ptrdiff_t wd = vec<double>::size;
  vec<double> y[wide_parts<T>];
  for (int part = 0; part < wide_parts<T>; ++part) {
    const vec<double> d = widen(x, part) - load<double>(subtract + part * wd);
    y[part] = fma<double>(d, load<double>(multiply + part * wd), load<double>(add + part * wd));
    y[part] = min<double>(max<double>(y[part], low), high);
  }
  if constexpr (wide_parts<T> == 1) return y[0];
  else return narrow(y[0], y[1]);
}

template <class T>
inline void affine_columns(const column_map& map, const view& x, const view& out) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const std::ptrdiff_t rows = x.shape[0], columns = x.shape[1];
  if (rows == 0 || columns == 0) return;
  // The columns repeated over a whole number of rows, so that short rows fill the registers: where
  // both arrays are contiguous, that many rows are one run.
  const auto contiguous = [&](const view& v) {
    return aligned<T>(v.data) && (columns == 1 || v.strides[1] == std::ptrdiff_t(sizeof(T))) &&
           (rows == 1 || v.strides[0] == columns * std::ptrdiff_t(sizeof(T)));
  };
  const bool direct = contiguous(x) && contiguous(out);
  const std::ptrdiff_t group = std::max<std::ptrdiff_t>(1, std::min(rows, tile_elements / columns));
  const std::ptrdiff_t period = group * columns, padded = ceil_div(period, w) * w;
  std::unique_ptr<double[]> table(new double[3 * padded]());
  double *subtract = table.get(), *multiply = subtract + padded, *add = multiply + padded;
  for (std::ptrdiff_t g = 0; g < group; ++g) {
    std::copy(map.subtract, map.subtract + columns, subtract + g * columns);
    std::copy(map.multiply, map.multiply + columns, multiply + g * columns);
    std::copy(map.add, map.add + columns, add + g * columns);
  }
  const vec<double> low = map.low, high = map.high;
  const std::ptrdiff_t groups = ceil_div(rows, group);
  const std::ptrdiff_t groups_a_chunk = std::max<std::ptrdiff_t>(1, chunk_elements / period);
  parallel_for(ceil_div(groups, groups_a_chunk), 0.3 * double(rows) * double(columns),
               [&](std::ptrdiff_t chunk) {
                 const std::ptrdiff_t end = std::min(groups, (chunk + 1) * groups_a_chunk);
                 for (std::ptrdiff_t g = chunk * groups_a_chunk; g < end; ++g) {
                   const std::ptrdiff_t begin = g * period;
                   const std::ptrdiff_t n = std::min(period, rows * columns - begin);
                   T buffer[tile_elements];
                   // A tile at a time: a group of short rows, or a part of one long row.
                   for (std::ptrdiff_t i = 0; i < n; i += tile_elements) {
                     const std::ptrdiff_t m = std::min(tile_elements, n - i);
                     const T* from = buffer;
                     T* to = buffer;
                     if (direct) {
                       from = reinterpret_cast<const T*>(x.data) + begin + i;
                       to = reinterpret_cast<T*>(out.data) + begin + i;
                     } else {
                       gather<T>(x, begin + i, m, buffer);
                     }
                     for (std::ptrdiff_t j = 0; j < m; j += w) {
                       const std::ptrdiff_t c = i + j;
                       const bool whole = j + w <= m;
                       const vec<T> v = whole ? load<T>(from + j) : load_part<T>(from + j, m - j);
                       const vec<T> y =
                           map_columns<T>(v, subtract + c, multiply + c, add + c, low, high);
                       if (whole) store<T>(to + j, y);
                       else store_part<T>(to + j, y, m - j);
                     }
                     if (!direct) scatter<T>(out, begin + i, m, buffer);
                   }
                 }
               });
}

}  // namespace dlcore
