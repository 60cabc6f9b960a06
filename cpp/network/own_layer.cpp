#include "network/own_layer.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

template <class T>
tensor<T> parameter_of(const own_layer_spec<T>& spec, std::size_t i) {
  return i < spec.parameters.size() ? spec.parameters[i] : tensor<T>{};
}

}  // namespace

template <class T>
own_layer<T>::own_layer(const own_layer_spec<T>& spec) : layer<T>(spec.in, spec.out), spec_(spec) {
  layer<T>::weight = parameter_of(spec, 0), layer<T>::bias = parameter_of(spec, 1);
  this->cost = nanoseconds<T>(1, in + out);
  this->statistics = this;
  for (const tensor<T>& p : spec.parameters) gradients_.emplace_back(p.gradient ? p.size : 0);
}

template <class T>
void own_layer<T>::end_batch(std::ptrdiff_t rows) {
  y_.resize(rows * out);
  spec_.forward(x_, rows, {y_.data(), out});
}

template <class T>
void own_layer<T>::end_backward(std::ptrdiff_t rows) {
  dx_.resize(rows * in);
  spec_.backward(dy_, x_, rows, dx_.data(), gradients_);
}

template <class T>
void own_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  if (p.training) copy_rows<T>({y_.data() + p.begin * out, out}, y, p.n, out);
  else spec_.forward(x, p.n, y);
}

template <class T>
void own_layer<T>::backward(rows_of<const T>, rows_of<const T>, rows_of<T> dx,
                            const pass& p) const {
  copy_rows<T>({dx_.data() + p.begin * in, in}, dx, p.n, in);
}

template <class T>
void own_layer<T>::gradient_of(std::size_t parameter, T* to, bool add) const {
  const std::vector<T>& from = gradients_[parameter];
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = add ? to[i] + from[i] : from[i];
}

template <class T>
void own_layer<T>::gradient(std::ptrdiff_t, rows_of<const T>, rows_of<const T>, std::ptrdiff_t,
                            T* dw, T* db, bool add) const {
  if (dw) gradient_of(0, dw, add);
  if (db) gradient_of(1, db, add);
}

template <class T>
own_parameters<T>::own_parameters(const own_layer<T>& of, const own_layer_spec<T>& spec,
                                  std::size_t first)
    : layer<T>(spec.out, spec.out), of_(of), first_(first) {
  this->weight = parameter_of(spec, first), this->bias = parameter_of(spec, first + 1);
  this->cost = nanoseconds<T>(0.1, this->in);
  this->forward_growth = this->backward_growth = {1, 0};
}

template <class T>
void own_parameters<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  copy_rows<T>(x, y, p.n, this->in);
}

template <class T>
void own_parameters<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                                 const pass& p) const {
  copy_rows<T>(dy, dx, p.n, this->in);
}

template <class T>
void own_parameters<T>::gradient(std::ptrdiff_t, rows_of<const T>, rows_of<const T>, std::ptrdiff_t,
                                 T* dw, T* db, bool add) const {
  if (dw) of_.gradient_of(first_, dw, add);
  if (db) of_.gradient_of(first_ + 1, db, add);
}

template class own_layer<float>;
template class own_layer<double>;
template class own_parameters<float>;
template class own_parameters<double>;

}  // namespace dlcore
