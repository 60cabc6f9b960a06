// Matrix products in register tiles: C = start + A B, A of m x k, B of k x n, C of m x n.
//
// A is packed as [k][rows of a tile], B is read in panels of panel_columns: packed as [k][columns],
// or where it lies if its rows are contiguous. Every element of C is one chain of multiply-adds
// over each block of k, the blocks added one after the other: its bits depend neither on its place
// in C, nor on the size of C, nor on who computes which part of it.
//
// Serial: callers bring the threads.
#pragma once

#include <algorithm>
#include <limits>

#include "core/workspace.hpp"
#include "kernels/packing.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// Terms that are added up by themselves, so that the error grows with their number and that of the
// blocks instead of with k; their panel of B stays in the first cache.
inline constexpr std::ptrdiff_t block_terms = 256;
// Tiles that are packed at a time; they stay in the second cache. All rows of a block of a batch,
// 64, are in one: with 8 tiles of AVX2, panels of B that only the last cache holds came in twice.
inline constexpr std::ptrdiff_t block_tiles = 112 / tile_rows;

struct product_tag;

// The elements that `product` needs to pack A, and a panel of B, which may write up to a register
// beyond the last tile.
template <class T>
inline constexpr std::ptrdiff_t product_scratch =
    (block_tiles * tile_rows + panel_columns<T>)*block_terms;

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
// stay), and with a `gate`, a matrix like C, `factor` times what they are, or 0 where an element of
// it is not above 0.
template <class T>
struct finish {
  T least = -std::numeric_limits<T>::infinity();
  const T* gate = nullptr;
  std::ptrdiff_t gate_step = 0;
  T factor = 1;
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

// Multiplies the tile of `height` rows, one of those that have a kernel; `rows` of them are stored.
template <class T>
void multiply_rows(std::ptrdiff_t height, std::ptrdiff_t k, const tile_source<T>& a,
                   const panel<T>& b, const tile_target<T>& target, std::ptrdiff_t rows);

// The heights that have a kernel: tile_rows and less, by steps; 1 as well.
inline constexpr int height_step = tile_rows > 6 ? 2 : 1;
// The height of the kernel for so many rows.
inline std::ptrdiff_t height_of(std::ptrdiff_t rows) {
  return rows <= 1 ? 1 : ceil_div(rows, height_step) * height_step;
}
// The rows of the next tile of those that are left: as few tiles as tile_rows allows, none much
// smaller than the others, since few rows have too few sums to hide how long a multiply-add takes.
inline std::ptrdiff_t rows_of_tile(std::ptrdiff_t left) {
  return std::min(left, height_of(ceil_div(left, ceil_div(left, tile_rows))));
}

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
  constexpr std::ptrdiff_t block = block_tiles * tile_rows;
  const std::ptrdiff_t most = even_chunk(k, block_terms, 1);
  T* scratch = thread_buffer<T, product_tag>(product_scratch<T>);
  for (std::ptrdiff_t i0 = 0; i0 < m; i0 += block) {
    const std::ptrdiff_t end = std::min(m, i0 + block);
    std::ptrdiff_t p = 0;
    do {  // once at least: without terms C is what it starts with
      const std::ptrdiff_t terms = std::min(most, k - p);
      const bool first = p == 0;
      tile_source<T> tiles[block_tiles], *next = tiles;
      for (std::ptrdiff_t i = i0, rows; i < end; i += rows) {
        rows = rows_of_tile(end - i);
        *next++ = tile_of(i, rows, height_of(rows), p, terms, scratch + (i - i0) * block_terms);
      }
      for (std::ptrdiff_t j = 0; j < n; j += panel_columns<T>) {
        panel<T> b = panel_of(j, std::min(panel_columns<T>, n - j), p, terms);
        if (!b.whole && b.columns % vec<T>::size != 0) {
          T* packed = scratch + block_tiles * tile_rows * block_terms;
          pack_straight<T>([&](std::ptrdiff_t t) { return b.first + t * b.step; }, b.columns,
                           panel_columns<T>, terms, packed);
          b = {packed, panel_columns<T>, b.columns, true};
        }
        next = tiles;
        for (std::ptrdiff_t i = i0, rows; i < end; i += rows) {
          rows = rows_of_tile(end - i);
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
          multiply_rows<T>(height_of(rows), terms, *next++, b, target, rows);
        }
      }
      p += terms;
    } while (p < k);
  }
}

}  // namespace dlcore
