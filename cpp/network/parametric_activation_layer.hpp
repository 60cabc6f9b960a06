// Activations with a parameter of each feature, or one for all of them, which is learned.
#pragma once

#include <optional>
#include <vector>

#include "network/layer.hpp"

namespace dlcore {

// y = x + w (f(x) - x), between x and an activation f of it; or PReLU, w x where x is not above 0.
//
// Where f(x) is x, so is y: of infinity as well, less which infinity would be NaN.
template <class T>
class parametric_activation_layer final : public layer<T> {
 public:
  using layer<T>::in;

  explicit parametric_activation_layer(const parametric_activation_spec<T>& spec);

  std::ptrdiff_t parts() const override { return is_shared() ? 1 : layer<T>::parts(); }
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override {
    if (is_shared()) return {0, in};
    return layer<T>::outputs_of(part);
  }
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override {
    if (is_shared()) return {0, 1};
    return layer<T>::outputs_of(part);
  }
  void reserve(std::ptrdiff_t batch) override {
    if (activation_ && this->learns()) beyond_.resize(std::size_t(batch * in));
  }
  void add_kept(ranks::message& m, std::ptrdiff_t owner, std::ptrdiff_t begin,
                std::ptrdiff_t end) const override {
    if (!beyond_.empty()) m.add(owner, beyond_.data() + begin * in, (end - begin) * in);
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

 private:
  std::optional<activation_spec> activation_;
  activation_forward_run<T> forward_run_ = nullptr;
  activation_backward_run<T> backward_run_ = nullptr;
  // f(x) - x of a batch, row by row, which the gradient of w is made of: f costs more than memory.
  mutable std::vector<T> beyond_;

  bool is_shared() const { return this->weight.size == 1; }
  // y[j] = f(a[j]..., the weight of feature j) of a row.
  template <class F, class... A>
  void map_row(const F& f, T* y, const A*... a) const;
  // Sums over rows of what columns [begin, begin + n) give the weights.
  void sum_columns(rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                   std::ptrdiff_t begin, std::ptrdiff_t n, T* sums) const;
};

}  // namespace dlcore
