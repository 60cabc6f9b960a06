#include "network/parallel_layers.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"

namespace dlcore {

template <class T>
slice_layer<T>::slice_layer(std::ptrdiff_t features, std::ptrdiff_t begin, std::ptrdiff_t end,
                            bool is_last)
    : layer<T>(features, end - begin), begin_(begin), is_last_(is_last) {
  this->cost = nanoseconds<T>(0.1, this->out);
  this->forward_growth = this->backward_growth = {1, 0};
  this->dx_over_dy = false;
  this->fused_forward = true;
}

template <class T>
void slice_layer<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                              const pass& p) const {
  const std::ptrdiff_t end = begin_ + this->out;
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    T* const to = dx.row(r);
    if (!is_last_) {
      add_run<T>(dy.row(r), to + begin_, this->out);
      continue;
    }
    std::fill(to, to + begin_, T(0));
    std::copy_n(dy.row(r), this->out, to + begin_);
    std::fill(to + end, to + this->in, T(0));
  }
}

template <class T>
carry_layer<T>::carry_layer(std::ptrdiff_t features, bool adds)
    : layer<T>(features, features), adds_(adds) {
  this->cost = nanoseconds<T>(0.1, this->in);
  this->forward_growth = this->backward_growth = {1, 0};
  this->fused_backward = true;
}

template <class T>
void carry_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    if (adds_) add_run<T>(x.row(r), y.row(r), this->in);
    else std::copy_n(x.row(r), this->in, y.row(r));
}

template class slice_layer<float>;
template class slice_layer<double>;
template class carry_layer<float>;
template class carry_layer<double>;

}  // namespace dlcore
