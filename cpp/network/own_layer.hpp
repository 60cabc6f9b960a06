// A layer of the user's own, computed elsewhere: in training for all rows of a batch at once, on
// the thread that runs the step, while no region is open; in inference block by block.
#pragma once

#include <memory>
#include <vector>

#include "network/layer.hpp"

namespace dlcore {

template <class T>
class own_layer final : public layer<T>, private batch_statistics<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit own_layer(const own_layer_spec<T>& spec);

  std::ptrdiff_t parts() const override { return 1; }
  typename layer<T>::range outputs_of(std::ptrdiff_t) const override { return {0, bias().size}; }
  typename layer<T>::range weights_of(std::ptrdiff_t) const override { return {0, weight().size}; }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;
  // What the last way back has made of a parameter.
  void gradient_of(std::size_t parameter, T* to, bool add) const;

 private:
  own_layer_spec<T> spec_;
  rows_of<const T> x_{}, dy_{};
  std::vector<T> y_, dx_;                  // of the batch
  std::vector<std::vector<T>> gradients_;  // of each parameter; empty: it is not trained

  const tensor<T>& weight() const { return layer<T>::weight; }
  const tensor<T>& bias() const { return layer<T>::bias; }
  void begin_batch() override {}
  void collect(std::ptrdiff_t, rows_of<const T> x, std::ptrdiff_t) override { x_ = x; }
  void end_batch(std::ptrdiff_t rows) override;
  void collect_backward(std::ptrdiff_t, rows_of<const T> dy, rows_of<const T> x,
                        std::ptrdiff_t) override {
    dy_ = dy, x_ = x;
  }
  void end_backward(std::ptrdiff_t rows) override;
  void restore() override {}
};

// Further parameters of such a layer, beside its weight and its bias. What comes in goes out.
template <class T>
class own_parameters final : public layer<T> {
 public:
  // From that one of its parameters on, two of them.
  own_parameters(const own_layer<T>& of, const own_layer_spec<T>& spec, std::size_t first);

  std::ptrdiff_t parts() const override { return 1; }
  typename layer<T>::range outputs_of(std::ptrdiff_t) const override {
    return {0, this->bias.size};
  }
  typename layer<T>::range weights_of(std::ptrdiff_t) const override {
    return {0, this->weight.size};
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  const own_layer<T>& of_;
  const std::size_t first_;
};

}  // namespace dlcore
