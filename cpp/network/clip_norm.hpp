// The norm of all gradients, from sums over the parts in which they are made, and the factor that
// limits it.
#pragma once

#include <vector>

#include "simd/sums.hpp"

namespace dlcore {

// The sum of the squares of some gradients. How they are cut into parts does not show: of floats
// the sum in double has 29 bits more than what comes of it, and of doubles the rest is kept.
template <class T>
pair_sum<double> squares_of_gradient(const T* gradient, std::ptrdiff_t n);

template <class T>
struct gradient_run {
  T* first;
  std::ptrdiff_t size;
};

// What the gradients, which are these runs, are to be multiplied by, so that their norm is at most
// max_norm; `squares`: of their parts. They are scaled here where the factor is beyond the range of
// T. Not above 0 where the norm is not finite.
template <class T>
double clip_factor(const std::vector<pair_sum<double>>& squares,
                   const std::vector<gradient_run<T>>& gradients, double max_norm);

}  // namespace dlcore
