// Dropout: each element is 0 with probability p in training, and divided by 1 - p otherwise
// (Srivastava et al.: Dropout, JMLR 2014).
#pragma once

#include "network/layer.hpp"

namespace dlcore {

// Which elements are dropped is a function of the step's key, the layer and the element alone, so
// nothing has to be kept for the way back.
template <class T>
class dropout_layer : public layer<T> {
 public:
  explicit dropout_layer(const dropout_spec& spec);

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  double p_;
  std::uint64_t stream_;

  void drop(rows_of<const T> x, rows_of<T> y, const pass& p) const;
};

}  // namespace dlcore
