// The rows of a data set, gathered by their indices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/labels.hpp"
#include "kernels/sparse_product.hpp"
#include "network/rows.hpp"

namespace dlcore {

// Of a sparse matrix in compressed rows: where each row begins, and the columns of its elements, as
// integers of 4 or 8 bytes.
struct compressed_rows {
  const void *starts, *columns;
  bool is_wide;

  // f(sparse_row) of a row, whose elements are in `data`.
  template <class T, class F>
  void visit(const T* data, std::int64_t row, const F& f) const {
    if (is_wide) visit_as<std::int64_t>(data, row, f);
    else visit_as<std::int32_t>(data, row, f);
  }

 private:
  template <class I, class T, class F>
  void visit_as(const T* data, std::int64_t row, const F& f) const {
    const I* const first = static_cast<const I*>(starts) + row;
    f(sparse_row<T, I>{data + first[0], static_cast<const I*>(columns) + first[0],
                       std::ptrdiff_t(first[1] - first[0])});
  }
};

// A matrix of any layout.
template <class T>
struct matrix_rows {
  const char* data = nullptr;
  std::ptrdiff_t row_stride = 0, column_stride = 0, width = 0;  // strides in bytes
  std::optional<compressed_rows> sparse = {};  // then data are the elements that are not 0

  // Copies rows to rows of our own, and returns the largest absolute value.
  double gather(const std::int64_t* indices, std::ptrdiff_t n, rows_of<T> to) const;
  // Of a row that is gathered soon.
  void prefetch_row(std::int64_t row) const {
    if (sparse) return;
    const char* const from = data + row * row_stride;
    prefetch(reinterpret_cast<const T*>(from), 0);
    prefetch(reinterpret_cast<const T*>(from + (width - 1) * column_stride), 0);
  }
};

// What the outputs of a data set should be: class indices, or values.
template <class T>
struct target_rows {
  const index_view* labels;  // null: values
  matrix_rows<T> values;
};

template <class T>
struct dataset {
  matrix_rows<T> x;
  target_rows<T> y;
  const double* weight;  // of each row; null: 1

  void prefetch_row(std::int64_t row) const {
    x.prefetch_row(row);
    if (!y.labels) y.values.prefetch_row(row);
    else prefetch(y.labels->rows.data + row * y.labels->rows.strides[0], 0);
  }
};

}  // namespace dlcore
