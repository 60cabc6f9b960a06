#include "network/dropout_layer.hpp"

#include <algorithm>

#include "kernels/dropout.hpp"
#include "kernels/elementwise.hpp"

namespace dlcore {

template <class T>
dropout_layer<T>::dropout_layer(const dropout_spec& spec)
    : layer<T>(spec.features, spec.features),
      p_(spec.p),
      stream_(spec.stream),
      // At p = 1 nothing is kept; inf would make NaN of 0.
      factor_(p_ < 1 ? T(1 / (1 - p_)) : T(0)),
      row_words_(words_of(spec.features)) {
  this->cost = nanoseconds<T>(0.2, this->in);
  this->forward_growth = this->backward_growth = {p_ < 1 ? 1 / (1 - p_) : 1, 0};
  this->y_over_x = true;
}

template <class T>
void dropout_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const std::uint64_t key = dropout_key(p.key, stream_);
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    if (!p.training) {
      if (x.row(r) != y.row(r)) std::copy(x.row(r), x.row(r) + this->in, y.row(r));
      continue;
    }
    std::uint32_t* const words = words_.data() + (p.begin + r) * row_words_;
    draw_kept(key, std::uint64_t(p.begin + r), p_, this->in, words);
    keep_some<T>(words, x.row(r), y.row(r), this->in, factor_);
  }
}

template <class T>
void dropout_layer<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                                const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    keep_some<T>(words_.data() + (p.begin + r) * row_words_, dy.row(r), dx.row(r), this->in,
                 factor_);
}

template class dropout_layer<float>;
template class dropout_layer<double>;

}  // namespace dlcore
