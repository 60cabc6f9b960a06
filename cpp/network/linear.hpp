// The linear layer over whole arrays, y = activation(x W^T + b), and its gradients.
#pragma once

#include "network/linear_layer.hpp"

namespace dlcore {

// `activation`: of finished elements, or null.
template <class T>
void linear_forward(linear_layer<T>& l, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows,
                    const activation_spec* activation);
// dx, and dW and db by the layer's own gradients.
template <class T>
void linear_backward(linear_layer<T>& l, rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                     std::ptrdiff_t rows);

}  // namespace dlcore
