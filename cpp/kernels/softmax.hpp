// softmax and log_softmax over rows: 8 bytes an element of float forward, and 12 backward, with an
// exponential for each; and logsumexp, which reads 4.
#pragma once

#include <array>

#include "core/parallel.hpp"
#include "kernels/rows.hpp"

namespace dlcore {

// operands: x, y. `run`: brings the threads.
template <class T>
void softmax(const row_shape& shape, const std::array<row_view, 2>& operands, chunk_runner run);
template <class T>
void log_softmax(const row_shape& shape, const std::array<row_view, 2>& operands, chunk_runner run);
// y: a value for each row. Of no classes nothing is written.
template <class T>
void logsumexp(const row_shape& shape, const row_view& x, const view& y, chunk_runner run);
// operands: dy, y, dx.
template <class T>
void softmax_backward(const row_shape& shape, const std::array<row_view, 3>& operands,
                      chunk_runner run);
template <class T>
void log_softmax_backward(const row_shape& shape, const std::array<row_view, 3>& operands,
                          chunk_runner run);

}  // namespace dlcore
