#include "network/layer_norm_layer.hpp"

#include <cmath>

namespace dlcore {

template <class T>
template <class Read>
auto layer_norm_layer<T>::moments_of(const T* from, const Read& read) const -> moments {
  const double count = double(this->in);
  block_sum<T> sum, rest, squares;
  if (is_centered_)
    each_register(0, this->in, [&](auto j, auto lanes) { sum.add(read(get(from + j, lanes))); });
  const T mean = T(sum.total() / count);
  // A second pass over the row: no cancellation, however far it lies from 0.
  each_register(0, this->in, [&](auto j, auto lanes) {
    vec<T> d = read(get(from + j, lanes)) - vec<T>(mean);
    if (lanes < w) d = first_lanes<T>(d, lanes);
    rest.add(d);
    squares.add(d * d);
  });
  const double lost = is_centered_ ? rest.total() / count : 0;
  const double var = squares.total() / count - lost * lost;
  return {mean, lost, var < 0 ? 0 : var};
}

template <class T>
void layer_norm_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T* from = x.row(r);
    T* to = y.row(r);
    T factor = T(1);
    double eps = this->eps_;
    moments m = moments_of(from, [](vec<T> v) { return v; });
    if (!keeps_squares(m.var + eps)) {
      largest_of<T> largest;
      largest.take(from, this->in);
      factor = factor_for(largest.value());
      eps = eps * double(factor) * double(factor);
      m = moments_of(from, [&](vec<T> v) { return v * vec<T>(factor); });
      if (factor != T(1)) has_factors_.store(true, std::memory_order_relaxed);
    }
    const T mean = m.mean, scale = T(1 / std::sqrt(m.var + eps)), shift = T(-m.lost) * scale;
    with_factor(factor, [&](const auto& read) {
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> y_j = normal(read(get(from + j, lanes)), mean, scale, shift);
        put(to + j, fma<T>(y_j, this->scale_of(j, lanes), this->shift_of(j, lanes)), lanes);
      });
    });
    if (!p.training) continue;
    const std::ptrdiff_t row = p.begin + r;
    factor_[row] = factor, mean_[row] = mean, scale_[row] = scale, shift_[row] = shift;
  }
}

template <class T>
void layer_norm_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                   const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T *from = x.row(r), *gradient = dy.row(r);
    T* to = dx.row(r);
    const vec<T> factor = factor_[p.begin + r], mean = mean_[p.begin + r],
                 scale = scale_[p.begin + r], shift = shift_[p.begin + r];
    with_factor(factor, [&](const auto& read) {
      block_sum<T> sum, dot;
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> g = get(gradient + j, lanes) * this->scale_of(j, lanes);
        sum.add(g);
        dot.add(g * normal(read(get(from + j, lanes)), mean, scale, shift));
      });
      const double count = double(this->in);
      const vec<T> a = T(is_centered_ ? sum.total() / count : 0), b = T(dot.total() / count);
      each_register(0, this->in, [&](auto j, auto lanes) {
        const vec<T> g = get(gradient + j, lanes) * this->scale_of(j, lanes);
        const vec<T> y_j = normal(read(get(from + j, lanes)), mean, scale, shift);
        put(to + j, read(scale * (g - a - y_j * b)), lanes);
      });
    });
  }
}

template <class T>
void layer_norm_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                   std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const auto features = this->outputs_of(part);
  const auto sums = [&](const auto& read) {
    each_register(features.begin, features.end, [&](auto j, auto lanes) {
      block_sum<T> sum, dot;
      for (std::ptrdiff_t r = 0; r < rows; ++r) {
        const vec<T> g = get(dy.row(r) + j, lanes);
        sum.add(g);
        dot.add(g * normal(read(get(x.row(r) + j, lanes), r), mean_[r], scale_[r], shift_[r]));
      }
      const std::ptrdiff_t at = j - features.begin;
      give(dw ? dw + at : nullptr, dot.lanes(), lanes, add);
      give(db ? db + at : nullptr, sum.lanes(), lanes, add);
    });
  };
  if (has_factors_.load(std::memory_order_relaxed))
    sums([&](vec<T> v, std::ptrdiff_t r) { return v * vec<T>(factor_[r]); });
  else sums([](vec<T> v, std::ptrdiff_t) { return v; });
}

template class layer_norm_layer<float>;
template class layer_norm_layer<double>;

}  // namespace dlcore
