// Layer normalization: y = (x - mean) / sqrt(var + eps) * weight + bias over the features of each
// row (Ba, Kiros, Hinton: Layer normalization, 2016). Without centering mean is 0 and var the mean
// square (Zhang, Sennrich: Root mean square layer normalization, 2019).
#pragma once

#include <atomic>
#include <vector>

#include "network/normalization_layer.hpp"

namespace dlcore {

template <class T>
class layer_norm_layer : public normalization_layer<T> {
  using base = normalization_layer<T>;
  using base::each_register, base::get, base::put, base::give, base::normal, base::w;
  using base::with_factor, base::keeps_squares, base::factor_for;

 public:
  explicit layer_norm_layer(const layer_norm_spec<T>& spec)
      : base(spec.features, spec.weight, spec.bias, spec.eps), is_centered_(spec.is_centered) {
    this->dx_over_dy = false;  // `gradient` needs dy
  }

  void reserve(std::ptrdiff_t batch) override {
    for (auto* of_rows : {&factor_, &mean_, &scale_, &shift_}) of_rows->resize(batch);
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  bool is_centered_;
  // Of each row of the batch, in training: what x is multiplied by before all else, and of that the
  // mean and what normalizes it.
  mutable std::vector<T> factor_, mean_, scale_, shift_;
  mutable std::atomic<bool> has_factors_{false};  // some were other than 1

  // Of a row: its rounded mean, what that lost, and the variance.
  struct moments {
    T mean;
    double lost, var;
  };
  template <class Read>
  moments moments_of(const T* from, const Read& read) const;
};

}  // namespace dlcore
