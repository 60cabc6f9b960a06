// Layers in a row.
#pragma once

#include <memory>
#include <vector>

#include "network/layer.hpp"

namespace dlcore {

template <class T>
class network {
 public:
  std::vector<std::unique_ptr<layer<T>>> layers;

  explicit network(const std::vector<layer_spec<T>>& specs);

  std::ptrdiff_t in() const { return layers.front()->in; }
  std::ptrdiff_t out() const { return layers.back()->out; }
  double cost() const {
    double sum = 0;
    for (const auto& l : layers) sum += l->cost;
    return sum;
  }

  // The parts of all layers, in one row.
  struct part {
    layer<T>* of;
    std::size_t layer_index;
    std::ptrdiff_t number;  // in its layer
  };
  std::vector<part> parts() const;

  // Takes over the values of all parameters as they are now.
  void pack(bool for_backward);
  // The same, for good: nobody changes them any more.
  void keep_packed() {
    pack(false);
    for (const auto& l : layers) l->keep_packed();
  }

 private:
  // Lets products do what the layers around them would do as they write.
  void fuse();
};

}  // namespace dlcore
