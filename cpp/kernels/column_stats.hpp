// Count, mean, variance and extremes of columns in one pass: 4 bytes an element of float.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

// Memory for some fields of so many columns, 0 at first.
template <std::size_t Fields>
struct column_storage {
  std::unique_ptr<double[]> values;
  std::array<double*, Fields> field;

  explicit column_storage(std::ptrdiff_t columns) {
    // Room for whole registers of any dtype.
    const std::ptrdiff_t room = ceil_div(columns, vec<float>::size) * vec<float>::size;
    values.reset(new double[Fields * room]());
    for (std::size_t k = 0; k < Fields; ++k) field[k] = values.get() + k * room;
  }
};

// Statistics of columns, kept relative to `shift`, an element of the column: the mean is
// shift + offset, squares is the sum of squared distances from it. For values of 1e8 +- 1 the
// offset keeps the digits that a mean in one double has lost.
struct column_fields {
  double *count, *shift, *offset, *squares, *least, *largest;

  column_fields from(std::ptrdiff_t c) const {
    return {count + c, shift + c, offset + c, squares + c, least + c, largest + c};
  }
};

struct column_sums : column_fields {
  std::ptrdiff_t columns;
  column_storage<6> storage;

  explicit column_sums(std::ptrdiff_t n) : columns(n), storage(n) {
    const auto& p = storage.field;
    static_cast<column_fields&>(*this) = {p[0], p[1], p[2], p[3], p[4], p[5]};
  }
};

// Of a matrix; NaN is passed over. `run`: brings the threads.
template <class T>
column_sums column_statistics(const view& x, chunk_runner run);

// The extremes alone: a column without numbers has infinity as the least, -infinity as the largest.
struct extreme_fields {
  double *least, *largest;

  extreme_fields from(std::ptrdiff_t c) const { return {least + c, largest + c}; }
};

struct column_extremes : extreme_fields {
  std::ptrdiff_t columns;
  column_storage<2> storage;

  explicit column_extremes(std::ptrdiff_t n);
};

template <class T>
column_extremes extremes_of_columns(const view& x, chunk_runner run);

}  // namespace dlcore
