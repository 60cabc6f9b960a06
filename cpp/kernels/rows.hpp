// Arrays as rows of classes: what a caller says to the kernels along a class axis.
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

// Up to so many classes lie in short_rows (class_axis.hpp).
inline constexpr std::ptrdiff_t short_classes = 64;

// An operand with its class axis taken out: `rows` views the first class of every row.
struct row_view {
  view rows;
  std::ptrdiff_t class_stride = 0;
};

struct row_shape {
  std::ptrdiff_t rows, classes;
  bool class_axis_last;  // no axis longer than 1 behind the class axis

  bool one_by_one() const { return classes > short_classes && class_axis_last; }
  // The rows of a chunk of parallel work; a multiple of every register's lanes where they hold
  // rows.
  std::ptrdiff_t chunk() const {
    const std::ptrdiff_t grain = one_by_one() ? 1 : 64;
    const std::ptrdiff_t most = 8192 / std::max<std::ptrdiff_t>(1, classes) / grain * grain;
    return even_chunk(rows, std::max(grain, most), grain);
  }
  std::ptrdiff_t chunks() const { return ceil_div(rows, chunk()); }
};

}  // namespace dlcore
