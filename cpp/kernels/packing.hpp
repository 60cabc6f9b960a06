// Matrices packed the way that the products read them (gemm.hpp).
#pragma once

#include <algorithm>
#include <cstddef>

#include "simd/vec.hpp"

namespace dlcore {

// A tile of C that the registers hold, with room for a row of B and an element of A.
inline constexpr int tile_registers = 2;
inline constexpr int tile_rows = instruction_set::tile_rows;
template <class T>
inline constexpr std::ptrdiff_t panel_columns = tile_registers * vec<T>::size;

// to[p * step + i] = from[i * row_step + p] for p < k, i < n; 0 for n <= i < width. room: step is
// width, and up to a register beyond the end may be written.
template <class T>
void transpose_any(const T* from, std::ptrdiff_t row_step, std::ptrdiff_t n, std::ptrdiff_t width,
                   std::ptrdiff_t k, T* to, std::ptrdiff_t step, bool room);
// To a panel: what packs weights before a step, and a tenth faster.
template <class T>
void transpose_to_panel(const T* from, std::ptrdiff_t row_step, std::ptrdiff_t n, std::ptrdiff_t k,
                        T* to);
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
void pack_matrix(const T* first, std::ptrdiff_t step, std::ptrdiff_t n, std::ptrdiff_t width,
                 std::ptrdiff_t k, T* to);

template <class T, class Row>
inline void pack_straight(const Row& row, std::ptrdiff_t n, std::ptrdiff_t width, std::ptrdiff_t k,
                          T* to) {
  pack_matrix<T>(row(0), k > 1 ? row(1) - row(0) : 0, n, width, k, to);
}

}  // namespace dlcore
