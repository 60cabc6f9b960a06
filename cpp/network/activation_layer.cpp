#include "network/activation_layer.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.hpp"

namespace dlcore {

template <class T>
activation_layer<T>::activation_layer(const activation_layer_spec& spec)
    : layer<T>(spec.features, spec.features),
      activation_(spec.activation),
      forward_run_(forward_of<T>(activation_.kind)),
      backward_run_(backward_of<T>(activation_.kind)) {
  T at_zero = 0;
  forward_run_(activation_.options, &at_zero, 1, 0, &at_zero);
  this->cost = nanoseconds<T>(dlcore::cost(activation_.kind), this->in);
  this->forward_growth = {lipschitz(activation_), std::abs(double(at_zero))};
  this->backward_growth = {lipschitz(activation_), 0};
  this->y_over_x = is_relu();
}

// f(row, elements from there on) of rows, or once of all of them where nothing lies between.
template <class F>
static void each_run(bool same_step, std::ptrdiff_t step, std::ptrdiff_t width, std::ptrdiff_t n,
                     const F& f) {
  const bool whole = same_step && step == width;
  const std::ptrdiff_t runs = whole ? std::min<std::ptrdiff_t>(n, 1) : n;
  for (std::ptrdiff_t r = 0; r < runs; ++r) f(r, whole ? n * width : width);
}

template <class T>
void activation_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  each_run(x.step == y.step, x.step, this->in, p.n, [&](std::ptrdiff_t r, std::ptrdiff_t m) {
    forward_run_(activation_.options, y.row(r), m, 0, x.row(r));
  });
}

template <class T>
void activation_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  const bool same_step = x.step == dy.step && x.step == dx.step;
  each_run(same_step, x.step, this->in, p.n, [&](std::ptrdiff_t r, std::ptrdiff_t m) {
    backward_run_(activation_.options, dx.row(r), m, 0, dy.row(r), x.row(r));
  });
}

template class activation_layer<float>;
template class activation_layer<double>;

}  // namespace dlcore
