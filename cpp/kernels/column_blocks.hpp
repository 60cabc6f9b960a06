// The walk over a matrix for what adds up column by column: tiles of columns, chunks of rows for
// the threads, blocks of rows for the caches.
//
// A method has
//   block_rows: the most rows of a block;
//   sums: fields of so many columns, of no rows at first; from(c) are those from column c on;
//   merge(fields, more, n): adds the rows of `more` to those of `fields`, n columns;
//   take<T>(block_of_rows<T>, fields): the fields of the rows of a block.
#pragma once

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

// Columns of a tile, and elements of a chunk of parallel work.
inline constexpr std::ptrdiff_t tile_columns = 64;
inline constexpr std::ptrdiff_t chunk_of_columns = 32768;
// Rows that are read from memory at a time, all columns of the tile, so that the processor sees
// memory go by in order: beyond the caches two thirds of the time, and of float64 1.1 times as fast
// as 32 of them.
inline constexpr std::ptrdiff_t rows_in_order = 4;

// Some rows of contiguous columns, `step` elements apart. `ahead`: rows to prefetch.
template <class T>
struct block_of_rows {
  const T* first;
  std::ptrdiff_t step, rows, columns, ahead;

  std::ptrdiff_t rows_at_once() const { return ahead ? rows_in_order : rows; }
};

// Rows of columns in memory, by registers: the first `n` lanes of each, or Whole ones.
template <class T, bool Whole>
struct register_rows {
  const T* first;
  std::ptrdiff_t step, n, ahead;

  vec<T> at(std::ptrdiff_t r) const {
    return Whole ? load<T>(first + r * step) : load_part<T>(first + r * step, n);
  }
  vec<double> wide(std::ptrdiff_t r, int part) const {
    return Whole ? load_wide<T>(first + r * step, part) : widen(at(r), part);
  }
  register_rows right(std::ptrdiff_t columns) const { return {first + columns, step, n, ahead}; }
  void prefetch_row(std::ptrdiff_t r) const {
    if (ahead) prefetch(first + r * step, ahead * step * std::ptrdiff_t(sizeof(T)));
  }
};

// The most registers that a block has side by side.
template <class T>
inline constexpr std::ptrdiff_t block_registers =
    std::max(2 * vec<T>::size, tile_columns / vec<T>::size);

// Calls visit(registers, number of the first) for the columns of a block: `Count` at a time, half
// as many, ..., one, and the rest.
template <int Count, class T, class F>
inline void visit_registers(const block_of_rows<T>& x, const F& visit, std::ptrdiff_t c = 0) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (; c + Count * w <= x.columns; c += Count * w)
    visit(std::integral_constant<int, Count>(),
          register_rows<T, true>{x.first + c, x.step, w, x.ahead}, c / w);
  if constexpr (Count > 1) visit_registers<Count / 2>(x, visit, c);
  else if (c < x.columns)
    visit(std::integral_constant<int, 1>(),
          register_rows<T, false>{x.first + c, x.step, x.columns - c, x.ahead}, c / w);
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
template <class Method, class T>
inline typename Method::sums sum_tile(const view& x, std::ptrdiff_t begin, std::ptrdiff_t end,
                                      std::ptrdiff_t column, std::ptrdiff_t columns) {
  using sums = typename Method::sums;
  constexpr std::ptrdiff_t block_rows = Method::block_rows;
  const std::ptrdiff_t item = sizeof(T);
  const bool direct = aligned<T>(x.data) && x.strides[1] == item && x.strides[0] % item == 0;
  const bool packed = direct && x.strides[0] == columns * item;
  const std::ptrdiff_t side =
      columns == x.shape[1] ? std::min(rows_side_by_side<T>(columns), end - begin) : 1;
  sums all(side * columns), block(0);
  const std::ptrdiff_t bytes = 2 * bytes_ahead(x.size() * item);
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
    const block_of_rows<T> of{p, side_by_side * step, rows / side_by_side, wide, ahead};
    if (row == begin && side_by_side == side) {
      Method::template take<T>(of, all);
      return;
    }
    if (!block.columns) block = sums(side * columns);
    Method::template take<T>(of, block);
    Method::merge(all, block, wide);
  };
  std::ptrdiff_t row = begin;
  while (row + side <= end) {
    const std::ptrdiff_t rows = std::min(block_rows, (end - row) / side) * side;
    add(row, rows, side);
    row += rows;
  }
  if (row < end) add(row, end - row, 1);
  for (std::ptrdiff_t half = side; half > 1; half = ceil_div(half, 2))
    Method::merge(all, all.from(ceil_div(half, 2) * columns), half / 2 * columns);
  all.columns = columns;
  return all;
}

// The fields of a matrix. An element in float takes `cost` nanoseconds.
template <class Method, class T>
inline typename Method::sums sum_columns(const view& x, double cost, chunk_runner run) {
  using sums = typename Method::sums;
  constexpr std::ptrdiff_t block_rows = Method::block_rows;
  const std::ptrdiff_t rows = x.shape[0], columns = x.shape[1];
  if (rows == 0 || columns == 0) return sums(columns);
  const std::ptrdiff_t width = columns <= 2 * vec<T>::size ? columns : tile_columns;
  const std::ptrdiff_t column_chunks = ceil_div(columns, width);
  const std::ptrdiff_t chunk_rows = even_chunk(
      rows, ceil_div(chunk_of_columns / std::min(width, columns), block_rows) * block_rows,
      block_rows);
  const std::ptrdiff_t row_chunks = ceil_div(rows, chunk_rows);
  if (row_chunks * column_chunks == 1) return sum_tile<Method, T>(x, 0, rows, 0, columns);
  std::vector<sums> parts;
  for (std::ptrdiff_t i = 0; i < row_chunks * column_chunks; ++i) parts.emplace_back(0);
  run(row_chunks * column_chunks, nanoseconds<T>(cost, rows * columns), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t column = i % column_chunks * width;
    const std::ptrdiff_t begin = i / column_chunks * chunk_rows;
    parts[i] = sum_tile<Method, T>(x, begin, std::min(rows, begin + chunk_rows), column,
                                   std::min(width, columns - column));
  });
  // A fixed tree over the chunks of rows.
  for (std::ptrdiff_t step = 1; step < row_chunks; step *= 2)
    for (std::ptrdiff_t r = 0; r + step < row_chunks; r += 2 * step)
      for (std::ptrdiff_t c = 0; c < column_chunks; ++c) {
        const sums& part = parts[r * column_chunks + c];
        Method::merge(part, parts[(r + step) * column_chunks + c], part.columns);
      }
  if (column_chunks == 1) return std::move(parts[0]);
  sums all(columns);
  for (std::ptrdiff_t c = 0; c < column_chunks; ++c)
    Method::merge(all.from(c * width), parts[c], parts[c].columns);
  return all;
}

}  // namespace dlcore
