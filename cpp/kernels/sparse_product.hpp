// Products with rows of a sparse matrix: y = start + x W^T, and the gradient of W.
//
// Sums have the order and the blocks of gemm.hpp. What is 0 adds nothing to them, so that a row
// with ascending columns has the bits that it has as a dense one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dlcore {

// The elements of a row that are there, with their columns, integers of 4 or 8 bytes.
template <class T, class I>
struct sparse_row {
  const T* values;
  const I* columns;
  std::ptrdiff_t size;
};

// The weights of columns, those of all outputs in a row: column c in row place[c], or c where there
// are no places. Rows are `step` elements apart. `whole`: there is memory to be read up to whole
// registers.
template <class T>
struct column_weights {
  const T* first;
  std::ptrdiff_t step;
  const std::int32_t* place;
  bool whole;
};

// y = start + x W^T, of `out` elements, at least `least` each. `terms`: the columns that are summed
// by themselves; `start`: null for nothing.
template <class T, class I>
void sparse_product(const sparse_row<T, I>& x, const column_weights<T>& weights,
                    std::ptrdiff_t terms, const T* start, T least, T* y, std::ptrdiff_t out);

// dw[c] += x[c] dy for the columns of a row: the gradient of the weights of an output.
template <class T, class I>
void add_scaled(const sparse_row<T, I>& x, T dy, T* dw);
// dw += x dy: what an element adds to the gradients of the weights of its column.
template <class T>
void add_scaled(const T* dy, T x, std::ptrdiff_t out, T* dw);

}  // namespace dlcore
