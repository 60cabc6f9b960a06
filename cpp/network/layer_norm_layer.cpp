#include "network/layer_norm_layer.hpp"

#include <cmath>

namespace dlcore {

template <class T>
void layer_norm_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T* from = x.row(r);
    T* to = y.row(r);
    const double count = double(this->in);
    block_sum<T> sum, rest, squares;
    each_register(0, this->in, [&](auto j, auto lanes) { sum.add(get(from + j, lanes)); });
    const T mean = T(sum.total() / count);
    // A second pass over the row: no cancellation, however far it lies from 0.
    each_register(0, this->in, [&](auto j, auto lanes) {
      vec<T> d = get(from + j, lanes) - vec<T>(mean);
      if (lanes < w) d = first_lanes<T>(d, lanes);
      rest.add(d);
      squares.add(d * d);
    });
    const double lost = rest.total() / count;
    const double var = std::max(0.0, squares.total() / count - lost * lost);
    const T scale = T(1 / std::sqrt(var + this->eps_)), shift = T(-lost) * scale;
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> y_j = normal(get(from + j, lanes), mean, scale, shift);
      put(to + j, fma<T>(y_j, this->scale_of(j, lanes), this->shift_of(j, lanes)), lanes);
    });
    if (p.training)
      mean_[p.begin + r] = mean, scale_[p.begin + r] = scale, shift_[p.begin + r] = shift;
  }
}

template <class T>
void layer_norm_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T *from = x.row(r), *gradient = dy.row(r);
    T* to = dx.row(r);
    const vec<T> mean = mean_[p.begin + r], scale = scale_[p.begin + r],
                 shift = shift_[p.begin + r];
    block_sum<T> sum, dot;
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> g = get(gradient + j, lanes) * this->scale_of(j, lanes);
      sum.add(g);
      dot.add(g * normal(get(from + j, lanes), mean, scale, shift));
    });
    const vec<T> a = T(sum.total() / double(this->in)), b = T(dot.total() / double(this->in));
    each_register(0, this->in, [&](auto j, auto lanes) {
      const vec<T> g = get(gradient + j, lanes) * this->scale_of(j, lanes);
      const vec<T> y_j = normal(get(from + j, lanes), mean, scale, shift);
      put(to + j, scale * (g - a - y_j * b), lanes);
    });
  }
}

template <class T>
void layer_norm_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                   std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const auto features = this->outputs_of(part);
  each_register(features.begin, features.end, [&](auto j, auto lanes) {
    block_sum<T> sum, dot;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
      const vec<T> g = get(dy.row(r) + j, lanes);
      sum.add(g);
      dot.add(g * normal(get(x.row(r) + j, lanes), mean_[r], scale_[r], shift_[r]));
    }
    const std::ptrdiff_t at = j - features.begin;
    give(dw ? dw + at : nullptr, dot.lanes(), lanes, add);
    give(db ? db + at : nullptr, sum.lanes(), lanes, add);
  });
}

template class layer_norm_layer<float>;
template class layer_norm_layer<double>;

}  // namespace dlcore
