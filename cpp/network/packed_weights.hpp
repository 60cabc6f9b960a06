// The weights of a linear layer and their optimizer state, by panels, while steps follow each
// other.
//
// The way forward reads the weights by panels of outputs. Gradient, update and state in that order
// as well leave nothing to transpose after a step but what the way back reads, and each part of it
// is one run of memory. The arrays that the caller knows are out of date meanwhile.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/register_array.hpp"
#include "network/linear_layer.hpp"
#include "network/optimizer.hpp"

namespace dlcore {

template <class T>
class packed_weights {
 public:
  // `weight` and `bias`: what is trained of the layer, or null. `for_backward`: the gradient of the
  // inputs is wanted.
  packed_weights(linear_layer<T>& of, const trained_parameter<T>& weight,
                 const trained_parameter<T>* bias, bool for_backward);

  // Whether a layer gains by it: the rest of a narrow panel is work for nothing.
  // A limit on the norm of whole rows needs more than a part has.
  static bool suits(const linear_layer<T>& l) {
    return l.forward_panels() && l.out > panel / 2 && l.in > 0 && l.max_norm == 0;
  }

  // Parts are some inputs of some panels.
  std::ptrdiff_t parts() const { return ceil_div(of_.out, columns_) * chunks(); }

  // Makes room; then all parts can be packed.
  void reserve();
  // Takes over the parameters and their state, and gives them back, which needs no memory.
  void pack(std::ptrdiff_t part);
  void unpack(std::ptrdiff_t part) const;

  // The elements of a part's gradient; sums it over the batch; updates the part by `factor` times
  // what it is.
  std::ptrdiff_t gradient_size(std::ptrdiff_t part) const;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* to) const;
  void update(std::ptrdiff_t part, T* gradient, const optimizer& by, T factor);

  // What an update of a part writes: values, or states and averages. Another rank may have written
  // it, whose values the products then take over.
  void add_values(ranks::message& m, std::ptrdiff_t owner, std::ptrdiff_t part) const;
  void add_states(ranks::message& m, std::ptrdiff_t owner, std::ptrdiff_t part) const;
  void take_values(std::ptrdiff_t part) const;

  const trained_parameter<T>& weight() const { return weight_; }
  // The sum of the squares of a part's weights.
  double squares(std::ptrdiff_t part) const;

 private:
  static constexpr std::ptrdiff_t panel = linear_layer<T>::panel;
  struct place;

  linear_layer<T>& of_;
  trained_parameter<T> weight_, bias_{};
  bool has_bias_, for_backward_;
  std::ptrdiff_t columns_, chunk_;  // outputs and inputs of a part
  tensor<T> values_;
  trained_parameter<T> packed_;
  std::vector<register_array<T>> memory_;
  std::vector<std::pair<T*, T*>> kept_;  // the caller's arrays, and theirs by panels
  bool is_reserved_ = false;

  std::ptrdiff_t chunks() const { return ceil_div(of_.in, chunk_); }
  // Packs the new weights of a part for the way back.
  void repack(const place& at) const;
  // The gradient of a part from one row, by panels.
  void gradient_of_row(const place& at, const T* dy, const T* x, T* gradient) const;
};

}  // namespace dlcore
