// The rows of a data set, gathered by their indices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/labels.hpp"
#include "network/rows.hpp"

namespace dlcore {

// Of a sparse matrix in compressed rows: where each row begins, and the columns of its elements, as
// integers of 4 or 8 bytes.
struct compressed_rows {
  const void *starts, *columns;
  bool is_wide;

  // f(place of an element, its column) of each element of a row.
  template <class F>
  void each(std::int64_t row, const F& f) const {
    if (is_wide) each_of(static_cast<const std::int64_t*>(starts), row, f);
    else each_of(static_cast<const std::int32_t*>(starts), row, f);
  }

 private:
  template <class I, class F>
  void each_of(const I* starts, std::int64_t row, const F& f) const {
    const I* of = static_cast<const I*>(columns);
    for (I i = starts[row]; i < starts[row + 1]; ++i) f(std::ptrdiff_t(i), std::ptrdiff_t(of[i]));
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
};

}  // namespace dlcore
