// The affine map of columns that both scalers are: 8 bytes an element of float.
#pragma once

#include <array>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

// y = (x - subtract) multiply + add for each column, then clipped to [low, high]; in double,
// rounded once to T. NaN stays.
struct column_map {
  const double *subtract, *multiply, *add;  // one a column
  double low, high;
};

// operands: x, y, matrices. Returns whether some elements of x are infinite, if it is to look for
// them. `run`: brings the threads.
template <class T>
bool affine_columns(const column_map& map, bool look, std::array<view, 2> operands,
                    chunk_runner run);

}  // namespace dlcore
