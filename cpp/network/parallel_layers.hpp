// What takes a row of layers apart into branches, and brings these together again.
//
// Mostly it is done by where layers read and write: a branch reads columns of its input where they
// lie, and writes into its columns of the output. What is left to do are sums.
#pragma once

#include "network/layer.hpp"

namespace dlcore {

// The beginning of a branch. Its output is a view of some columns of its input; on the way back all
// branches of an input add to the gradient there, the last one first.
template <class T>
class slice_layer final : public layer<T> {
 public:
  slice_layer(std::ptrdiff_t features, std::ptrdiff_t begin, std::ptrdiff_t end, bool is_last);

  void forward(rows_of<const T>, rows_of<T>, const pass&) const override {}
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;

 private:
  std::ptrdiff_t begin_;
  bool is_last_;
};

// The end of a branch whose last layer cannot write to the output itself: y = x, or y += x. The
// gradient of its input is that of its output.
template <class T>
class carry_layer final : public layer<T> {
 public:
  carry_layer(std::ptrdiff_t features, bool adds);

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void backward(rows_of<const T>, rows_of<const T>, rows_of<T>, const pass&) const override {}

 private:
  bool adds_;
};

// Where the branches have met: its output is what they have written.
template <class T>
class join_layer final : public layer<T> {
 public:
  explicit join_layer(std::ptrdiff_t features) : layer<T>(features, features) {
    this->fused_forward = this->fused_backward = true;
  }

  void forward(rows_of<const T>, rows_of<T>, const pass&) const override {}
  void backward(rows_of<const T>, rows_of<const T>, rows_of<T>, const pass&) const override {}
};

}  // namespace dlcore
