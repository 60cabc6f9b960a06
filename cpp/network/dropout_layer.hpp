// Dropout: each element is 0 with probability p in training, and divided by 1 - p otherwise
// (Srivastava et al.: Dropout, JMLR 2014).
#pragma once

#include <vector>

#include "network/layer.hpp"

namespace dlcore {

// Which elements are dropped is a function of the step's key, the layer and the element alone; the
// way forward leaves it to the way back, a bit an element.
template <class T>
class dropout_layer : public layer<T> {
 public:
  explicit dropout_layer(const dropout_spec& spec);

  // What an element that is kept is multiplied by.
  T factor() const { return factor_; }

  void reserve(std::ptrdiff_t batch) override { words_.resize(batch * row_words_); }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  double p_;
  std::uint64_t stream_;
  T factor_;
  std::ptrdiff_t row_words_;
  mutable std::vector<std::uint32_t> words_;  // of each row of the batch
};

}  // namespace dlcore
