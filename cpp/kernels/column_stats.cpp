#include "kernels/column_stats.hpp"

#include <limits>
#include <numeric>
#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

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

}  // namespace

template <class T>
column_sums column_statistics(const view& x, chunk_runner run) {
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
  run(row_chunks * column_chunks, nanoseconds<T>(0.12, rows * columns), [&](std::ptrdiff_t i) {
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

template column_sums column_statistics<float>(const view&, chunk_runner);
template column_sums column_statistics<double>(const view&, chunk_runner);

}  // namespace dlcore
