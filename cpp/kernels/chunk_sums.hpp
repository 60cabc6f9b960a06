// The one loop of sums over whole arrays.
#pragma once

#include <array>
#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

// The sum over chunks, by a fixed tree, of what a copy of `empty` makes of the registers of each:
// it has add(vec<T>) and total(). `cost`: nanoseconds an element takes.
template <class T, class Sum>
double sum_in_chunks(std::array<view, 1> x, double cost, chunk_runner run, const Sum& empty) {
  collapse(x);
  const sequence<T> in(x[0]);
  const element_chunks chunks(x[0].size());
  std::vector<double> sums(chunks.count());
  run(chunks.count(), nanoseconds<T>(cost, chunks.n), [&](std::ptrdiff_t chunk) {
    Sum sum = empty;
    visit_chunk(in, chunks, chunk, [&](vec<T> v) { sum.add(v); });
    sums[chunk] = sum.total();
  });
  return tree_sum(sums.data(), chunks.count());
}

}  // namespace dlcore
