// Sums over whole arrays.
#pragma once

#include <array>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

// The sum of all elements, and that of their squares, in double. `run`: brings the threads.
template <class T>
double sum_of_elements(std::array<view, 1> x, chunk_runner run);
template <class T>
double sum_of_squares(std::array<view, 1> x, chunk_runner run);

}  // namespace dlcore
