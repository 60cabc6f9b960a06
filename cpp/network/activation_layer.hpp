// An activation as a layer.
#pragma once

#include "network/layer.hpp"

namespace dlcore {

template <class T>
class activation_layer : public layer<T> {
 public:
  explicit activation_layer(const activation_layer_spec& spec);

  bool is_relu() const { return activation_.kind == activation_kind::relu; }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  activation_spec activation_;
  activation_forward_run<T> forward_run_;
  activation_backward_run<T> backward_run_;
};

}  // namespace dlcore
