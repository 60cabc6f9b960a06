#include "network/parametric_activation_layer.hpp"

#include <algorithm>
#include <cmath>

#include "core/workspace.hpp"
#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

template <class T>
vec<T> below_zero(vec<T> x) {
  return select<T>(x > vec<T>(T(0)), vec<T>(T(0)), x);
}

}  // namespace

template <class T>
parametric_activation_layer<T>::parametric_activation_layer(
    const parametric_activation_spec<T>& spec)
    : layer<T>(spec.features, spec.features), activation_(spec.activation) {
  this->weight = spec.weight;
  double slope = 1, at_zero = 0, cost = 0.15;
  if (activation_) {
    forward_run_ = forward_of<T>(activation_->kind);
    backward_run_ = backward_of<T>(activation_->kind);
    T zero = 0;
    forward_run_(activation_->options, &zero, 1, 0, &zero);
    at_zero = std::abs(double(zero));
    slope = lipschitz(*activation_) + 1;  // of f(x) - x
    cost += dlcore::cost(activation_->kind);
  }
  this->cost = nanoseconds<T>(cost, this->in);
  this->forward_growth = {slope + 1, at_zero, true, 1};
  this->backward_growth = {slope + 1, 0, true, 1};
  const double columns = is_shared() ? double(this->in) : 1;
  this->gradient_growth = {columns * slope, columns * at_zero};
  this->dx_over_dy = false;  // the gradient of the weights is made of dy
  this->part_outputs_ = even_chunk(this->in, 64, vec<T>::size);
}

template <class T>
template <class F, class... A>
void parametric_activation_layer<T>::map_row(const F& f, T* y, const A*... a) const {
  const T* const w = this->weight.value;
  if (is_shared()) {
    const vec<T> one = *w;
    map_run<T>([f, one](auto... v) { return f(v..., one); }, y, in, 0, a...);
  } else {
    map_run<T>(f, y, in, 0, a..., w);
  }
}

template <class T>
void parametric_activation_layer<T>::forward(rows_of<const T> x, rows_of<T> y,
                                             const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T* const from = x.row(r);
    T* const to = y.row(r);
    if (!activation_) {
      map_row([](vec<T> v, vec<T> w) { return select<T>(v > vec<T>(T(0)), v, w * v); }, to, from);
      continue;
    }
    T* const beyond = p.training && !beyond_.empty() ? beyond_.data() + (p.begin + r) * in : to;
    forward_run_(activation_->options, beyond, in, 0, from);
    map_run<T>([](vec<T> f, vec<T> v) { return select<T>(f == v, vec<T>(T(0)), f - v); }, beyond,
               in, 0, beyond, from);
    map_row([](vec<T> d, vec<T> v,
               vec<T> w) { return select<T>(d == vec<T>(T(0)), v, fma<T>(w, d, v)); },
            to, static_cast<const T*>(beyond), from);
  }
}

template <class T>
void parametric_activation_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x,
                                              rows_of<T> dx, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const T *const g = dy.row(r), *const from = x.row(r);
    T* const to = dx.row(r);
    if (!activation_) {
      map_row([](vec<T> d, vec<T> v, vec<T> w) { return select<T>(v > vec<T>(T(0)), d, w * d); },
              to, g, from);
      continue;
    }
    backward_run_(activation_->options, to, in, 0, g, from);
    map_row([](vec<T> f, vec<T> d, vec<T> w) { return fma<T>(w, f - d, d); }, to,
            static_cast<const T*>(to), g);
  }
}

template <class T>
void parametric_activation_layer<T>::sum_columns(rows_of<const T> dy, rows_of<const T> x,
                                                 std::ptrdiff_t rows, std::ptrdiff_t begin,
                                                 std::ptrdiff_t n, T* sums) const {
  std::fill_n(sums, n, T(0));
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const T* const g = dy.row(r) + begin;
    if (activation_)
      map_run<T>([](vec<T> s, vec<T> d, vec<T> f) { return fma<T>(d, f, s); }, sums, n, 0, sums, g,
                 static_cast<const T*>(beyond_.data() + r * in + begin));
    else
      map_run<T>([](vec<T> s, vec<T> d, vec<T> v) { return fma<T>(d, below_zero<T>(v), s); }, sums,
                 n, 0, sums, g, x.row(r) + begin);
  }
}

template <class T>
void parametric_activation_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy,
                                              rows_of<const T> x, std::ptrdiff_t rows, T* dw, T*,
                                              bool add) const {
  if (!dw) return;
  struct tag;
  const auto columns = outputs_of(part);
  const std::ptrdiff_t n = columns.size();
  T* const sums = thread_buffer<T, tag>(n);
  sum_columns(dy, x, rows, columns.begin, n, sums);
  if (is_shared()) {
    double sum = add ? double(*dw) : 0.0;
    for (std::ptrdiff_t j = 0; j < n; ++j) sum += double(sums[j]);
    *dw = T(sum);
  } else if (add) {
    add_run<T>(sums, dw, n);
  } else {
    std::copy_n(sums, n, dw);
  }
}

template class parametric_activation_layer<float>;
template class parametric_activation_layer<double>;

}  // namespace dlcore
