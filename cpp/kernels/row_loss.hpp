// A loss of rows of classes over all rows, for the files of cross_entropy.hpp.
#pragma once

#include <vector>

#include "kernels/class_axis.hpp"

namespace dlcore {

// Where the losses of the rows go: an array of them, or a sum for each chunk.
template <class T>
struct loss_sink {
  view losses;  // no data: sum
  std::vector<wide_sum<T>> sums;

  // The losses of n rows from `row` on, in the first n lanes.
  __attribute__((noinline)) void take(std::ptrdiff_t chunk, vec<T> loss, std::ptrdiff_t row,
                                      std::ptrdiff_t n) {
    if (losses.data) {
      T lanes[vec<T>::size];
      store<T>(lanes, loss);
      scatter(losses, row, n, lanes);
    } else {
      sums[chunk].add(first_lanes<T>(loss, n));
    }
  }
  double total() const {
    if (sums.size() == 1) return sums[0].total();
    std::vector<double> totals;
    for (const wide_sum<T>& sum : sums) totals.push_back(sum.total());
    return tree_sum(totals.data(), std::ptrdiff_t(totals.size()));
  }
};

template <class T, class Kernel, std::size_t K>
inline double row_loss(const row_shape& shape, const std::array<row_view, K>& operands, double cost,
                       chunk_runner run, const Kernel& kernel) {
  kernel.sink.sums.assign(shape.chunks(), {});
  for_rows<T>(shape, operands, cost, run, kernel);
  return kernel.sink.total();
}

}  // namespace dlcore
