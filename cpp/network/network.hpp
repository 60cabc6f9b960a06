// Layers in the order in which they are computed, and what each reads and writes.
//
// Values on their way through the network lie at nodes: node 0 is the input, layer l writes node
// l + 1. Most layers read what the one before has written; branches begin at one node and end in
// parts of another.
#pragma once

#include <memory>
#include <vector>

#include "network/layer.hpp"

namespace dlcore {

template <class T>
class member_mean_layer;
template <class T>
class sparse_layer;

// Some columns of a node, from there on.
struct node_view {
  std::size_t node;
  std::ptrdiff_t begin = 0;
};

// A layer by itself.
template <class T>
std::unique_ptr<layer<T>> make_layer(const layer_spec<T>& spec);

template <class T>
class network {
 public:
  std::vector<std::unique_ptr<layer<T>>> layers;
  std::vector<std::size_t> sources;         // the node that each layer reads
  std::vector<std::size_t> described;       // the layers that were described, in that order
  sparse_layer<T>* sparse_input = nullptr;  // the first layer, if it reads rows of a sparse matrix

  // In training: what the members predict together, unless null.
  std::unique_ptr<member_mean_layer<T>> mean;

  // `trains`: members stay apart to the end, where each has a loss.
  explicit network(const std::vector<layer_spec<T>>& specs, bool trains = false);
  ~network();

  std::ptrdiff_t in() const { return layers.front()->in; }
  std::ptrdiff_t out() const { return layers.back()->out; }
  std::ptrdiff_t width_of(std::size_t node) const { return node ? layers[node - 1]->out : in(); }
  // Of a row: that of all layers, or of one.
  double cost() const {
    double sum = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) sum += cost_of(l);
    return sum;
  }
  double cost_of(std::size_t l) const { return layers[l]->cost * double(copies_at(sources[l])); }
  // Rows at a node for each row of the input: one for each member. And at most, and at the end.
  std::ptrdiff_t copies_at(std::size_t node) const { return copies_[node]; }
  std::ptrdiff_t most_copies() const { return most_copies_; }
  std::ptrdiff_t copies() const { return copies_.back(); }
  // Rows of the input that are computed at a time, of so many.
  std::ptrdiff_t block_of(std::ptrdiff_t rows) const {
    const std::ptrdiff_t block = dlcore::block_of(rows * most_copies_);
    return std::max<std::ptrdiff_t>(1, block / most_copies_);
  }

  // Where the values of a node lie, and the gradients there: in a node of their own, or in another
  // one, be it as columns of it or since a layer writes over what it reads.
  node_view values_of(std::size_t node) const { return resolved(values_, node); }
  node_view gradients_of(std::size_t node) const { return resolved(gradients_, node); }
  // Whether a node lies there with nothing beside it.
  bool is_whole(const node_view& at, std::size_t node) const {
    return width_of(at.node) == width_of(node);
  }
  // The nodes at which branches end that make up the output of a layer; none of any other layer.
  const std::vector<std::size_t>& ends_at(std::size_t l) const { return ends_[l]; }

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
  std::vector<node_view> values_, gradients_;  // of each node, in itself unless in another one
  std::vector<std::vector<std::size_t>> ends_;
  std::vector<bool> is_gradient_shared_;  // that of a node, by branches that are summed
  std::vector<std::ptrdiff_t> copies_;
  std::ptrdiff_t most_copies_ = 1;
  const bool trains_;

  static node_view resolved(const std::vector<node_view>& views, std::size_t node) {
    node_view at{node, 0};
    while (views[at.node].node != at.node)
      at = {views[at.node].node, at.begin + views[at.node].begin};
    return at;
  }
  std::size_t add(std::unique_ptr<layer<T>> own, std::size_t source);
  std::size_t add(const std::vector<layer_spec<T>>& specs, std::size_t source);
  std::size_t add(const parallel_spec<T>& spec, std::size_t source);
  std::size_t add_parameters(const own_layer_spec<T>& spec, std::size_t source);
  bool is_slice(std::size_t node) const;
  // Lets layers write over what they read.
  void share_nodes();
  // Lets products do what the layers around them would do as they write.
  void fuse();
};

}  // namespace dlcore
