// Cross-entropy of up to 16 classes whose rows are runs of elements, with plain class indices: the
// bits of cross_entropy.hpp at less than half its time.
#pragma once

#include "kernels/cross_entropy.hpp"

namespace dlcore {

// Whether the operands are such ones.
template <class T>
bool has_few_classes(const row_shape& shape, const std::array<row_view, 2>& operands,
                     const row_loss_options<T>& options);

template <class T>
double cross_entropy_few(const row_shape& shape, const std::array<row_view, 2>& operands,
                         const index_view& target, const row_loss_options<T>& options,
                         const view& losses, chunk_runner run);

}  // namespace dlcore
