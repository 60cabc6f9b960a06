#include "kernels/reductions.hpp"

#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

template <class T>
double sum_of_squares(std::array<view, 1> x, chunk_runner run) {
  collapse(x);
  const sequence<T> in(x[0]);
  const element_chunks chunks(x[0].size());
  std::vector<double> sums(chunks.count());
  run(chunks.count(), nanoseconds<T>(0.2, chunks.n), [&](std::ptrdiff_t chunk) {
    vec<double> sum = 0.0;
    visit_chunk(in, chunks, chunk, [&](vec<T> v) {
      for (int part = 0; part < wide_parts<T>; ++part) {
        const vec<double> d = widen(v, part);
        sum = fma<double>(d, d, sum);
      }
    });
    sums[chunk] = reduce_add(sum);
  });
  return tree_sum(sums.data(), chunks.count());
}

template double sum_of_squares<float>(std::array<view, 1>, chunk_runner);
template double sum_of_squares<double>(std::array<view, 1>, chunk_runner);

}  // namespace dlcore
