#include "kernels/reductions.hpp"

#include <type_traits>

#include "kernels/chunk_sums.hpp"
#include "simd/sums.hpp"

namespace dlcore {

namespace {

template <class T>
struct square_sum {
  vec<double> sum = 0.0;

  void add(vec<T> x) {
    for (int part = 0; part < wide_parts<T>; ++part) {
      const vec<double> d = widen(x, part);
      sum = fma<double>(d, d, sum);
    }
  }
  double total() const { return reduce_add(sum); }
};

}  // namespace

template <class T>
double sum_of_squares(std::array<view, 1> x, chunk_runner run) {
  return sum_in_chunks<T>(x, 0.2, run, square_sum<T>());
}

template <class T>
double sum_of_elements(std::array<view, 1> x, chunk_runner run) {
  using sum = std::conditional_t<std::is_same_v<T, double>, compensated_sum, wide_sum<T>>;
  return sum_in_chunks<T>(x, 0.1, run, sum());
}

template double sum_of_squares<float>(std::array<view, 1>, chunk_runner);
template double sum_of_squares<double>(std::array<view, 1>, chunk_runner);
template double sum_of_elements<float>(std::array<view, 1>, chunk_runner);
template double sum_of_elements<double>(std::array<view, 1>, chunk_runner);

}  // namespace dlcore
