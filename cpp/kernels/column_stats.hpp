// Count, mean, variance and extremes of columns in one pass: 4 bytes an element of float.
#pragma once

#include <cstddef>
#include <memory>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

// Statistics of columns, kept relative to `shift`, an element of the column: the mean is
// shift + offset, squares is the sum of squared distances from it. For values of 1e8 +- 1 the
// offset keeps the digits that a mean in one double has lost.
struct column_fields {
  double *count, *shift, *offset, *squares, *least, *largest;

  column_fields from(std::ptrdiff_t c) const {
    return {count + c, shift + c, offset + c, squares + c, least + c, largest + c};
  }
};

// Statistics of this many columns.
struct column_sums : column_fields {
  std::ptrdiff_t columns = 0;
  std::unique_ptr<double[]> storage;

  explicit column_sums(std::ptrdiff_t n) : columns(n) {
    // Room for whole registers of any dtype.
    const std::ptrdiff_t room = ceil_div(n, vec<float>::size) * vec<float>::size;
    storage.reset(new double[6 * room]());
    double* p = storage.get();
    for (double** field : {&count, &shift, &offset, &squares, &least, &largest})
      *field = p, p += room;
  }
};

// Of a matrix; NaN is passed over. `run`: brings the threads.
template <class T>
column_sums column_statistics(const view& x, chunk_runner run);

}  // namespace dlcore
