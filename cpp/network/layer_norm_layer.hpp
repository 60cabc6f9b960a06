// Layer normalization: y = (x - mean) / sqrt(var + eps) * weight + bias over the features of each
// row (Ba, Kiros, Hinton: Layer normalization, 2016).
#pragma once

#include <vector>

#include "network/normalization_layer.hpp"

namespace dlcore {

template <class T>
class layer_norm_layer : public normalization_layer<T> {
  using base = normalization_layer<T>;
  using base::each_register, base::get, base::put, base::give, base::normal, base::w;

 public:
  explicit layer_norm_layer(const layer_norm_spec<T>& spec)
      : base(spec.features, spec.weight, spec.bias, spec.eps) {
    this->dx_over_dy = false;  // `gradient` needs dy
  }

  void reserve(std::ptrdiff_t batch) override {
    for (auto* of_rows : {&mean_, &scale_, &shift_}) of_rows->resize(batch);
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  mutable std::vector<T> mean_, scale_, shift_;  // of each row of the batch, in training
};

}  // namespace dlcore
