// The passes forward and backward of a batch through a network, block by block of rows.
//
// Where no layer depends on the whole batch, a block goes forward, through the loss and back while
// the caches hold it. Otherwise all blocks come as far as that layer before the first goes on.
#pragma once

#include <memory>
#include <vector>

#include "core/register_array.hpp"
#include "network/network.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// A parallel region of a step. Subnormal numbers count as 0 in it. Regions that follow each other
// closely cost five times as much as one alone: below some 60 us a step two threads were slower
// than one.
template <class F, class... Before>
inline void step_region(std::ptrdiff_t chunks, double nanoseconds, const F& f,
                        const Before&... before) {
  const flush_subnormals flushed;
  parallel_for(chunks, nanoseconds / 5, f, before...);
}

template <class T>
class passes {
 public:
  // `to_inputs`: the gradient of the inputs of the network is wanted as well.
  passes(network<T>& net, std::ptrdiff_t batch, bool to_inputs = false);

  // Whether gradients come down to the outputs of a layer, and through it to its inputs.
  bool reaches(std::size_t l) const { return has_gradient_[l + 1]; }
  bool goes_through(std::size_t l) const { return has_gradient_[net_.sources[l]]; }
  // The rows of the input of a layer, and of the gradient of its output, from that of a row of the
  // batch on.
  rows_of<T> inputs_of(std::size_t l, std::ptrdiff_t begin = 0) const {
    return at_node(activations_, net_.sources[l], begin);
  }
  rows_of<T> gradients_of(std::size_t l, std::ptrdiff_t begin = 0) const {
    return at_node(gradients_, l + 1, begin);
  }
  // Those of the network.
  rows_of<T> inputs() const { return activations_.front(); }
  rows_of<T> outputs() const { return activations_.back(); }
  rows_of<T> input_gradients() const { return gradients_.front(); }
  rows_of<T> output_gradients() const { return gradients_.back(); }

  // What layers draw is drawn by this key from now on. `between`: the ranks that share the blocks
  // of rows, of which this one passes its own alone; null: it passes all.
  void begin_batch(std::uint64_t key, ranks* between = nullptr) {
    key_ = key, between_ = between;
    bad_code_.store(false, std::memory_order_relaxed);
  }
  // Rows [begin, end) of a batch of n that a rank passes.
  struct row_range {
    std::ptrdiff_t begin, end;
  };
  row_range rows_of_rank(std::ptrdiff_t n, std::ptrdiff_t rank) const;
  // What gradients are made of, of the rows of each rank, and the outputs; once it is here.
  void add_rows(ranks::message& m, std::ptrdiff_t n) const;
  void take_rows(std::ptrdiff_t n) const;
  // How many bytes that are, of a row.
  double exchanged_bytes() const;
  // Whether a value was no category, since then.
  void set_bad_code() { bad_code_.store(true, std::memory_order_relaxed); }
  bool has_bad_code() const { return bad_code_.load(std::memory_order_relaxed); }
  // All rows forward, begin_block(first, rows) before a block's and end_block(first, rows) after
  // them.
  using block_function = function_ref<void(std::ptrdiff_t, std::ptrdiff_t)>;
  void forward(std::ptrdiff_t n, block_function begin_block, block_function end_block);
  // The rows of a block back, down to the highest layer of the whole batch.
  void backward_block(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m) {
    backward_block(n, begin, m, net_.layers.size(), false);
  }
  // All rows back. `begun`: all blocks are at the highest layer of the whole batch already.
  void backward(std::ptrdiff_t n, bool begun);
  // Whether there is a layer of the whole batch on the way back.
  bool waits_for_batch() const { return next_of_batch(net_.layers.size()) < net_.layers.size(); }

  // The gradients of a part of a layer, to this memory, each unless null.
  void gradient(std::size_t l, std::ptrdiff_t part, std::ptrdiff_t n, T* dw, T* db,
                bool add) const {
    net_.layers[l]->gradient(part, gradients_of(l).read(), inputs_of(l).read(),
                             n * net_.copies_at(net_.sources[l]), dw, db, add);
  }

 private:
  network<T>& net_;
  std::vector<register_array<T>> memory_;
  // By node: several lie in the same memory. There is no gradient where nobody asks for it.
  std::vector<rows_of<T>> activations_, gradients_;
  std::vector<bool> has_gradient_;
  std::uint64_t key_ = 0;
  ranks* between_ = nullptr;
  mutable std::atomic<bool> bad_code_{false};

  rows_of<T> at_node(const std::vector<rows_of<T>>& all, std::size_t node,
                     std::ptrdiff_t begin) const {
    return all[node].from(begin * net_.copies_at(node));
  }
  rows_of<T> outputs_of(std::size_t l, std::ptrdiff_t begin) const {
    return at_node(activations_, l + 1, begin);
  }
  pass pass_of(std::size_t l, std::ptrdiff_t begin, std::ptrdiff_t m, std::ptrdiff_t n) const {
    const std::ptrdiff_t copies = net_.copies_at(net_.sources[l]);
    return {begin * copies, m * copies, n * copies, true, key_, &bad_code_};
  }
  void each_block(std::ptrdiff_t n, double cost, block_function f) const;
  // Of the memory of a node the rows of each rank.
  void add_memory(ranks::message& m, const rows_of<T>& of, std::size_t node,
                  std::ptrdiff_t n) const;
  void exchange(const std::vector<rows_of<T>>& all, const node_view& at, std::ptrdiff_t n) const;
  // f(values or gradients, their view of a node, the node) of what gradients are made of.
  template <class F>
  void each_exchanged(const F& f) const;
  std::size_t next_of_batch(std::size_t top) const;
  void backward_block(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m, std::size_t top,
                      bool through);
};

}  // namespace dlcore
