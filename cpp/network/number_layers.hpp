// Layers of embeddings of numbers: each feature by itself becomes several.
//
// A row of x has those of one feature beside each other, feature after feature, and so has y.
#pragma once

#include "core/register_array.hpp"
#include "network/layer.hpp"

namespace dlcore {

// A linear layer of each feature, y_f = x_f W_f + b_f, or the same of all, y_f = x_f W^T + b.
template <class T>
class feature_linear_layer final : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit feature_linear_layer(const feature_linear_spec<T>& spec);

  std::ptrdiff_t parts() const override { return ceil_div(count_, part_count_); }
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override;
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override;
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;
  void pack(std::ptrdiff_t part, bool for_backward) override;

 private:
  const std::ptrdiff_t features_, own_in_, own_out_;  // features, and the widths of one
  const bool is_shared_;
  // What parts are made of: features, or outputs of one where all are the same.
  const std::ptrdiff_t count_, part_count_;
  const std::ptrdiff_t forward_step_, backward_step_;  // of rows of the weights, whole registers
  // Of each feature the weights from inputs to outputs, and from outputs to inputs.
  register_array<T> forward_weights_, backward_weights_;

  std::ptrdiff_t matrix_of(std::ptrdiff_t feature) const { return is_shared_ ? 0 : feature; }
  void pack_forward(std::ptrdiff_t begin, std::ptrdiff_t end, T* to) const;
  void forward_with(const T* weights, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t n) const;
};

// Periodic activations of each feature, cos(2 pi w x) and sin(2 pi w x), or cos(2 pi w x + b).
template <class T>
class periodic_layer final : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit periodic_layer(const periodic_spec<T>& spec);

  std::ptrdiff_t parts() const override { return ceil_div(in, part_features_); }
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override {
    return weights_of(part);
  }
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override {
    return {part * part_features_ * k_, std::min(in, (part + 1) * part_features_) * k_};
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  const std::ptrdiff_t k_, own_out_;  // frequencies and outputs of a feature
  const std::ptrdiff_t part_features_;

  // f(feature, first frequency, how many, their weights, their biases) of features [begin, end).
  template <class F>
  void each_register(std::ptrdiff_t begin, std::ptrdiff_t end, const F& f) const;
};

// How far numbers are in bins: (x - lower) * scale of each bin, kept between two bounds.
template <class T>
class piecewise_linear_layer final : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit piecewise_linear_layer(const piecewise_linear_spec<T>& spec);

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  const piecewise_linear_spec<T> bins_;
};

// What is missing, NaN, as 0 and all else as it is; or 1 where it is missing, and 0 elsewhere.
template <class T>
class missing_layer final : public layer<T> {
 public:
  explicit missing_layer(const missing_spec& spec);

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  const bool indicates_;
};

}  // namespace dlcore
