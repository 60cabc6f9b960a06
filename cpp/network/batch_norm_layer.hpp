// Batch normalization: y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each
// feature over the batch in training, running means of them otherwise (Ioffe, Szegedy: Batch
// normalization, 2015).
#pragma once

#include <vector>

#include "network/normalization_layer.hpp"

namespace dlcore {

template <class T>
class batch_norm_layer : public normalization_layer<T>, private batch_statistics<T> {
  using base = normalization_layer<T>;
  using base::each_register, base::give, base::w;

 public:
  explicit batch_norm_layer(const batch_norm_spec<T>& spec);

  void reserve(std::ptrdiff_t batch) override {
    if (!frozen_) this->bound(double(batch));
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  bool frozen_;
  double momentum_;  // of the running means; negative: they are the mean over all batches
  T *running_mean_, *running_var_;
  std::int64_t* batches_;
  // Of the batch: what x is multiplied by before all else, and of that the mean and what normalizes
  // it.
  std::vector<T> factor_, mean_, scale_, shift_;
  std::vector<T> sum_, dot_;           // of dy, and of dy times the normalized x
  std::vector<T> old_mean_, old_var_;  // the running means before the batch
  std::int64_t old_batches_ = 0;

  // Each column has two passes over the batch: no cancellation.
  void collect(std::ptrdiff_t part, rows_of<const T> x, std::ptrdiff_t rows) override;
  void begin_batch() override;
  void end_batch(std::ptrdiff_t rows) override;
  void collect_backward(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                        std::ptrdiff_t rows) override;
  void restore() override;

  // Of a register of features: the rounded mean, what that lost, and the squared distances from it.
  struct moments {
    vec<T> mean, lost, squares;
  };
  template <int K, class Read>
  void moments_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j, std::ptrdiff_t lanes,
                  const Read& read, moments (&of)[K]) const;
  void keep(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j, std::ptrdiff_t lanes,
            const moments& plain_ones);
  vec<T> factors_of(rows_of<const T> x, std::ptrdiff_t rows, std::ptrdiff_t j, std::ptrdiff_t lanes,
                    mask<T> plain) const;

  // What y = normal(x * factor, mean, scale, shift) is made with: the batch's in training, else the
  // running ones.
  struct affine {
    vec<T> factor, mean, scale, shift;
  };
  affine map_of(bool of_batch, std::ptrdiff_t j, std::ptrdiff_t lanes) const;
  template <int K>
  struct affines;

  // f(feature, lanes, sum of dy, sum of dy times the normalized x) of the features of a part.
  template <class F>
  void each_sum(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                const F& f) const;
  vec<T> running_scale(std::ptrdiff_t j, std::ptrdiff_t lanes) const {
    return vec<T>(T(1)) / sqrt(load_up_to<T>(running_var_ + j, lanes) + vec<T>(T(this->eps_)));
  }
};

}  // namespace dlcore
