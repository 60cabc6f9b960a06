// Matrix products in register tiles: C = start + A B, A of m x k, B of k x n, C of m x n.
//
// A is packed as [k][rows of a tile], B is read in panels of panel_columns: packed as [k][columns],
// or where it lies if its rows are contiguous. Every element of C is one chain of multiply-adds
// over each block of k, the blocks added one after the other: its bits depend neither on its place
// in C, nor on the size of C, nor on who computes which part of it.
//
// Serial: callers bring the threads.
#pragma once

#include <memory>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// A tile of C that the registers hold, with room for a row of B and an element of A.
inline constexpr int tile_registers = 2;
#if defined(__AVX512F__)
inline constexpr int tile_rows = 14;
#elif defined(__aarch64__)
inline constexpr int tile_rows = 12;
#else
inline constexpr int tile_rows = 6;
#endif
template <class T>
inline constexpr std::ptrdiff_t panel_columns = tile_registers * vec<T>::size;

// Terms that are added up by themselves, so that the error grows with their number and that of the
// blocks instead of with k; their panel of B stays in the first cache.
inline constexpr std::ptrdiff_t block_terms = 256;
// Tiles that are packed at a time; they stay in the second cache.
inline constexpr std::ptrdiff_t block_tiles = 8;

// Memory of this thread that stays for the next call: one for each Tag and element type.
template <class T, class Tag>
inline T* thread_buffer(std::ptrdiff_t n) {
  thread_local std::unique_ptr<vec<T>[]> memory;
  thread_local std::ptrdiff_t size = 0;
  if (n > size) {
    memory.reset();
    size = 0;
    memory.reset(new vec<T>[ceil_div(n, vec<T>::size)]);
    size = ceil_div(n, vec<T>::size) * vec<T>::size;
  }
  return reinterpret_cast<T*>(memory.get());
}
struct product_tag;

// The elements that `product` needs to pack A, and a panel of B, which may write up to a register
// beyond the last tile.
template <class T>
inline constexpr std::ptrdiff_t product_scratch =
    (block_tiles * tile_rows + panel_columns<T>)*block_terms;

// ---- packing ------------------------------------------------------------------------------------

// to[p * step + i] = from[i * row_step + p] for p < k, i < n; 0 for n <= i < width. room: step is
// width, and up to a register beyond the end may be written.
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
template <class T>
__attribute__((noinline)) void transpose_any(const T* from, std::ptrdiff_t row_step,
                                             std::ptrdiff_t n, std::ptrdiff_t width,
                                             std::ptrdiff_t k, T* to, std::ptrdiff_t step,
                                             bool room) {
  transpose_block<T>(from, row_step, n, width, k, to, step, room);
}
// To a panel: what packs weights before a step, and a tenth faster.
template <class T>
__attribute__((noinline)) void transpose_to_panel(const T* from, std::ptrdiff_t row_step,
                                                  std::ptrdiff_t n, std::ptrdiff_t k, T* to) {
  transpose_block<T>(from, row_step, n, panel_columns<T>, k, to, panel_columns<T>, true);
}
// The same for rows that begin at row(0), row(1), ..., an even distance apart.
template <class T, class Row>
inline void transpose_rows(const Row& row, std::ptrdiff_t n, std::ptrdiff_t width, std::ptrdiff_t k,
                           T* to, std::ptrdiff_t step, bool room) {
  transpose_any<T>(row(0), n > 1 ? row(1) - row(0) : 0, n, width, k, to, step, room);
}
// Rows next to each other, in memory with room for one more register.
template <class T, class Row>
inline void pack_transposed(const Row& row, std::ptrdiff_t n, std::ptrdiff_t width,
                            std::ptrdiff_t k, T* to) {
  if (width != panel_columns<T>) transpose_rows<T>(row, n, width, k, to, width, true);
  else transpose_to_panel<T>(row(0), n > 1 ? row(1) - row(0) : 0, n, k, to);
}

// to[p * width + i] = first[p * step + i] for p < k, i < n; 0 for n <= i < width.
template <class T>
__attribute__((noinline)) void pack_matrix(const T* first, std::ptrdiff_t step, std::ptrdiff_t n,
                                           std::ptrdiff_t width, std::ptrdiff_t k, T* to) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  // A row is at the most a few lines, and the next ones are too far away for the processor to see.
  const std::ptrdiff_t ahead = 12 * step * std::ptrdiff_t(sizeof(T));
  for (std::ptrdiff_t p = 0; p < k; ++p, to += width) {
    const T* from = first + p * step;
    prefetch(from, ahead);
    prefetch(from + n - 1, ahead);
    for (std::ptrdiff_t i = 0; i < width; i += w) {
      const std::ptrdiff_t there = std::clamp<std::ptrdiff_t>(n - i, 0, w);
      const vec<T> x = there == w ? load<T>(from + i) : load_part<T>(from + i, there);
      if (i + w <= width) store<T>(to + i, x);
      else store_part<T>(to + i, x, width - i);
    }
  }
}

template <class T, class Row>
inline void pack_straight(const Row& row, std::ptrdiff_t n, std::ptrdiff_t width, std::ptrdiff_t k,
                          T* to) {
  pack_matrix<T>(row(0), k > 1 ? row(1) - row(0) : 0, n, width, k, to);
}

// ---- a tile -------------------------------------------------------------------------------------

// Rows of B: `columns` of them from the panel's first one on, `step` elements apart.
template <class T>
struct panel {
  const T* first;
  std::ptrdiff_t step, columns;
  bool whole;  // there is memory to be read up to whole registers
};

// How far ahead of use rows of B are asked for: what other cores or the last cache hold arrives in
// time, and what the first cache holds loses nothing. At 1024 columns: 0.83 of the time.
inline constexpr std::ptrdiff_t rows_ahead = 16;

// A tile of A, packed or where it lies: elements from row to row, and from term to term; bytes to
// what is asked for ahead of use.
template <class T>
struct tile_source {
  const T* first;
  std::ptrdiff_t row_step, term_step, ahead = 0;
};

// What is done with the elements of C as they are written: at least `least` they become (NaN and -0
// stay), and 0 where an element of `gate`, a matrix like C, is not above 0.
template <class T>
struct finish {
  T least = -std::numeric_limits<T>::infinity();
  const T* gate = nullptr;
  std::ptrdiff_t gate_step = 0;
};

// Where a tile's result goes, and what it is added to: nothing if `start` is null.
template <class T>
struct tile_target {
  T* c;
  std::ptrdiff_t step;
  const T* start;
  std::ptrdiff_t start_step;
  finish<T> last;
};

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
        x = select<T>(read(target.last.gate, target.last.gate_step) <= zero, zero, x);
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
  const vec<T> least = target.last.least, zero = T(0);
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
        sum[i][r] = select<T>(load<T>(gate + r * w) <= zero, zero, sum[i][r]);
  T* c = target.c;
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i, c += target.step)
#pragma GCC unroll 2
    for (int r = 0; r < Registers; ++r) store<T>(c + r * w, sum[i][r]);
}

// The tile of `height` rows, one of those that have a kernel.
template <class T, int Rows = tile_rows>
inline void multiply_rows(std::ptrdiff_t height, std::ptrdiff_t k, const tile_source<T>& a,
                          const panel<T>& b, const tile_target<T>& target, std::ptrdiff_t rows) {
  if constexpr (Rows > 1) {
    if (height < Rows)
      return multiply_rows<T, (Rows > 2 ? Rows - 2 : 1)>(height, k, a, b, target, rows);
  }
  constexpr std::ptrdiff_t w = vec<T>::size;
  if (b.columns > w) multiply_tile<T, Rows, 2>(k, a, b, target, rows);
  else multiply_tile<T, Rows, 1>(k, a, b, target, rows);
}

// The height of the tiles that m rows are cut into: as few as tile_rows allows, none much smaller
// than the others, the last one no higher than its own rows need.
inline std::ptrdiff_t tile_height(std::ptrdiff_t m) {
  if (m <= 1) return 1;
  const std::ptrdiff_t even = ceil_div(m, ceil_div(m, tile_rows));
  return even + even % 2;
}
inline std::ptrdiff_t height_of(std::ptrdiff_t rows) { return rows <= 1 ? 1 : rows + rows % 2; }

// The tile of rows `step` elements apart: where they lie, or packed to `to` where a row is missing
// to the height of the kernel, or where so many rows would meet in a set of the first cache.
template <class T>
inline tile_source<T> tile_of_rows(const T* first, std::ptrdiff_t step, std::ptrdiff_t rows,
                                   std::ptrdiff_t height, std::ptrdiff_t terms, T* to) {
  if (rows == height && step * std::ptrdiff_t(sizeof(T)) % 1024 != 0) return {first, step, 1};
  pack_transposed<T>([&](std::ptrdiff_t r) { return first + r * step; }, rows, height, terms, to);
  return {to, 1, height};
}
// The tile of columns of terms `step` elements apart. Packing pays from some `panels` of B on.
template <class T>
inline tile_source<T> tile_of_columns(const T* first, std::ptrdiff_t step, std::ptrdiff_t rows,
                                      std::ptrdiff_t height, std::ptrdiff_t terms,
                                      std::ptrdiff_t panels, T* to) {
  if (rows == height && panels <= 4) return {first, 1, step, rows * std::ptrdiff_t(sizeof(T))};
  pack_straight<T>([&](std::ptrdiff_t t) { return first + t * step; }, rows, height, terms, to);
  return {to, 1, height};
}

// ---- the product --------------------------------------------------------------------------------

// C = start + A B. tile_of(i, rows, height, p, terms, to) gives the tile of A from row i and term p
// on, where it lies or packed to `to`; panel_of(j, columns, p, terms) gives the panel of B from
// column j and term p on. `start`: a row that is added to each of C, or null. `last`: what is done
// with its elements in the end. `c_panel`: elements from panel to panel of C.
template <class T, class TileOf, class PanelOf>
inline void product(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, const TileOf& tile_of,
                    const PanelOf& panel_of, T* c, std::ptrdiff_t c_step, const T* start,
                    const finish<T>& last = {}, std::ptrdiff_t c_panel = panel_columns<T>) {
  const std::ptrdiff_t height = tile_height(m), block = block_tiles * height;
  const std::ptrdiff_t most = even_chunk(k, block_terms, 1);
  T* scratch = thread_buffer<T, product_tag>(product_scratch<T>);
  for (std::ptrdiff_t i0 = 0; i0 < m; i0 += block) {
    const std::ptrdiff_t end = std::min(m, i0 + block);
    std::ptrdiff_t p = 0;
    do {  // once at least: without terms C is what it starts with
      const std::ptrdiff_t terms = std::min(most, k - p);
      const bool first = p == 0;
      tile_source<T> tiles[block_tiles];
      for (std::ptrdiff_t i = i0; i < end; i += height) {
        const std::ptrdiff_t rows = std::min(height, end - i);
        tiles[(i - i0) / height] =
            tile_of(i, rows, height_of(rows), p, terms, scratch + (i - i0) * block_terms);
      }
      for (std::ptrdiff_t j = 0; j < n; j += panel_columns<T>) {
        panel<T> b = panel_of(j, std::min(panel_columns<T>, n - j), p, terms);
        if (!b.whole && b.columns % vec<T>::size != 0) {
          T* packed = scratch + block_tiles * tile_rows * block_terms;
          pack_straight<T>([&](std::ptrdiff_t t) { return b.first + t * b.step; }, b.columns,
                           panel_columns<T>, terms, packed);
          b = {packed, panel_columns<T>, b.columns, true};
        }
        for (std::ptrdiff_t i = i0; i < end; i += height) {
          const std::ptrdiff_t rows = std::min(height, end - i);
          T* corner = c + i * c_step + j / panel_columns<T> * c_panel;
          tile_target<T> target{corner,
                                c_step,
                                first ? (start ? start + j : nullptr) : corner,
                                first ? 0 : c_step,
                                {}};
          if (p + terms == k) {
            target.last = last;
            if (last.gate) target.last.gate += i * last.gate_step + j;
          }
          multiply_rows<T>(height_of(rows), terms, tiles[(i - i0) / height], b, target, rows);
        }
      }
      p += terms;
    } while (p < k);
  }
}

}  // namespace dlcore
