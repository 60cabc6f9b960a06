// Losses of rows of classes, alone or fused with their gradient: 4 bytes an element of float are
// read, or 8 with class probabilities, and 4 more written with the gradient.
#pragma once

#include <array>

#include "core/labels.hpp"
#include "core/parallel.hpp"
#include "kernels/rows.hpp"

namespace dlcore {

struct index_summary {
  std::ptrdiff_t first_bad;  // the row of the first label out of range, or -1
  double weight;             // the weights of the labels that are not ignored, added up
};

// One pass over the labels before anything is written.
template <class T>
index_summary check_indices(const index_view& target, std::ptrdiff_t rows, std::ptrdiff_t classes,
                            std::ptrdiff_t ignore_index, const T* class_weight, chunk_runner run);

template <class T>
struct row_loss_options {
  const T* class_weight;  // one a class, contiguous, or null
  double weight_sum;      // of class_weight, or the number of classes
  double label_smoothing;
  std::ptrdiff_t ignore_index;
  double scale;  // of the gradient
};

// The kernels return the sum of the losses, or write each of them to `losses` unless that has no
// data, and return 0. The last operand is the gradient, without data where it is not wanted. `run`:
// brings the threads.

// Cross-entropy of logits with class indices. operands: logits, gradient.
template <class T>
double cross_entropy(const row_shape& shape, const std::array<row_view, 2>& operands,
                     const index_view& target, const row_loss_options<T>& options,
                     const view& losses, chunk_runner run);
// The same with class probabilities. operands: logits, target, gradient.
template <class T>
double cross_entropy(const row_shape& shape, const std::array<row_view, 3>& operands,
                     const row_loss_options<T>& options, const view& losses, chunk_runner run);
// Negative log-likelihood. operands: log-probabilities, gradient.
template <class T>
double nll_loss(const row_shape& shape, const std::array<row_view, 2>& operands,
                const index_view& target, const row_loss_options<T>& options, const view& losses,
                chunk_runner run);

}  // namespace dlcore
