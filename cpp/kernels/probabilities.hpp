// What the logits of a classifier mean: 8 bytes an element of float, with an exponential for each.
#pragma once

#include <cstddef>

namespace dlcore {

// The softmax of each row of `classes`, in place; the rows add up to 1, to the last bit that they
// can, as NumPy adds them.
template <class T>
void class_probabilities(T* rows, std::ptrdiff_t n, std::ptrdiff_t classes);

// (1 - p, p) with p = sigmoid(x) of n numbers, each to its last digit. p has 2 n elements.
template <class T>
void binary_probabilities(const T* x, T* p, std::ptrdiff_t n);

}  // namespace dlcore
