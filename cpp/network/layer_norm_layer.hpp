// Layer normalization: y = (x - mean) / sqrt(var + eps) * weight + bias over the features of each
// row (Ba, Kiros, Hinton: Layer normalization, 2016). Without centering mean is 0 and var the mean
// square (Zhang, Sennrich: Root mean square layer normalization, 2019).
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "network/normalization_layer.hpp"

namespace dlcore {

template <class T>
class layer_norm_layer : public normalization_layer<T> {
  using base = normalization_layer<T>;
  using whole = typename base::whole;
  using base::each_register, base::give, base::normal, base::w;
  using base::with_factor, base::keeps_squares, base::factor_for;

 public:
  explicit layer_norm_layer(const layer_norm_spec<T>& spec)
      : base(spec.features, spec.weight, spec.bias, spec.eps), is_centered_(spec.is_centered) {
    this->dx_over_dy = false;  // `gradient` needs dy
    this->bound(double(spec.features));
  }

  void reserve(std::ptrdiff_t batch) override {
    for (auto* of_rows : {&factor_, &mean_, &scale_, &shift_}) of_rows->resize(batch);
  }
  void add_kept(ranks::message& m, std::ptrdiff_t owner, std::ptrdiff_t begin,
                std::ptrdiff_t end) const override {
    for (auto* of_rows : {&factor_, &mean_, &scale_, &shift_})
      m.add(owner, of_rows->data() + begin, end - begin);
  }
  void take_kept(std::ptrdiff_t rows) const override {
    const auto is_other = [](T factor) { return factor != T(1); };
    if (std::any_of(factor_.begin(), factor_.begin() + rows, is_other))
      has_factors_.store(true, std::memory_order_relaxed);
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

  // Of K rows side by side: the rounded mean, what that lost, and the variance.
  template <int K>
  struct moments {
    T mean[K];
    double lost[K], var[K];
  };
  template <int K, class Read>
  void moments_of(rows_of<const T> x, const Read& read, moments<K>& of) const;
  // What y = normal(x * factor, mean, scale, shift) is made with.
  struct map {
    T factor, mean, scale, shift;
  };
  void write_row(const T* from, T* to, std::ptrdiff_t row, const map& by) const;
  void write_scaled_row(const T* from, T* to, std::ptrdiff_t row) const;
  template <int K, class Read>
  void backward_rows(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx, std::ptrdiff_t row,
                     const Read& read) const;
  // f(first row, K) of K rows side by side, a constant: the sums of one by itself wait for each
  // addition.
  template <int Together, class F>
  static void each_row_group(std::ptrdiff_t rows, const F& f) {
    std::ptrdiff_t r = 0;
    for (; r + Together <= rows; r += Together) f(r, std::integral_constant<int, Together>());
    for (; r < rows; ++r) f(r, std::integral_constant<int, 1>());
  }
};

}  // namespace dlcore
