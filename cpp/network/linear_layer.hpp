// The linear layer y = x W^T + b, W of shape out x in.
#pragma once

#include "core/register_array.hpp"
#include "kernels/gemm.hpp"
#include "network/layer.hpp"

namespace dlcore {

template <class T>
class linear_layer : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;
  static constexpr std::ptrdiff_t panel = panel_columns<T>;

  const double max_norm;  // of the weights of each output; 0: any

  // `has_panels`: the products of the layer itself are to be computed.
  explicit linear_layer(const linear_spec<T>& spec, bool has_panels = true);
  // For the layer over whole arrays.
  linear_layer(std::ptrdiff_t in, std::ptrdiff_t out, T* weight, T* bias)
      : linear_layer(linear_spec<T>{in, out, {weight}, {bias}, 0}) {}
  void set_gradients(T* weight, T* bias) {
    this->weight.gradient = weight;
    this->bias.gradient = bias;
  }

  // The weights as the products take them: by panels of outputs, in x panel elements each.
  T* forward_panels() const { return forward_panels_.data(); }
  // By panels of inputs, out x panel elements each; null: they are read where they lie.
  T* backward_panels() const { return backward_panels_.data(); }
  void reserve_backward_panels();

  // Does the way forward of a ReLU that takes its outputs, or the way back of one that makes its
  // inputs, with dropout in between or not, whose elements are multiplied by `factor`: what is
  // dropped is 0 and looks to the ReLU's way back as what was not above 0.
  void rectify_outputs() { rectifies_outputs_ = true; }
  void rectify_inputs(T factor) { rectifies_inputs_ = true, input_factor_ = factor; }

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;
  void constrain(std::ptrdiff_t part) const override;
  void keep_packed() override { is_packed_ = true; }
  void pack(std::ptrdiff_t part, bool for_backward) override;

  // Some columns of y, from a multiple of a panel on, whose weights are `packed`.
  void forward_columns(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t n, std::ptrdiff_t begin,
                       std::ptrdiff_t count, const T* packed) const;
  // Some columns of dx, from a multiple of a panel on.
  void backward_columns(rows_of<const T> dy, rows_of<T> dx, std::ptrdiff_t n, std::ptrdiff_t begin,
                        std::ptrdiff_t count, const finish<T>& last = {}) const;
  // Packs the weights of outputs [begin, end), from a multiple of a panel on.
  void pack_outputs(std::ptrdiff_t begin, std::ptrdiff_t end, T* to) const;
  // Packs a part of the weights for the way back, where they are not read where they lie.
  void pack_inputs(std::ptrdiff_t part);

  // The sums of columns of dy.
  static void sum_columns(rows_of<const T> dy, std::ptrdiff_t begin, std::ptrdiff_t m,
                          std::ptrdiff_t rows, T* db);

 protected:
  bool rectifies_outputs_ = false, rectifies_inputs_ = false;
  bool is_packed_ = false;  // for good

  virtual void fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                              std::ptrdiff_t rows, T* dw, T* db) const;

 private:
  register_array<T> forward_panels_, backward_panels_;
  T input_factor_ = 1;

  // Of one row the same as `forward_columns`.
  void forward_row(const T* x, T* y, std::ptrdiff_t begin, std::ptrdiff_t count,
                   const T* packed) const;
  void forward_few_packed(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t n) const;
};

}  // namespace dlcore
