#include "network/passes.hpp"

#include <algorithm>

namespace dlcore {

template <class T>
passes<T>::passes(network<T>& net, std::ptrdiff_t batch, bool to_inputs)
    : net_(net), has_gradient_{to_inputs} {
  const std::size_t count = net.layers.size();
  for (std::size_t l = 0; l < count; ++l) {
    bool reaches = net.layers[l]->learns() || has_gradient_[net.sources[l]];
    for (const std::size_t end : net.ends_at(l)) reaches = reaches || has_gradient_[end];
    has_gradient_.push_back(reaches);
  }
  has_gradient_[count] = true;
  // The rows of each node, in the memory of the node that it is a part of.
  const auto rooms = [&](const auto& view_of, const auto& is_wanted) {
    std::vector<rows_of<T>> own(count + 1), all(count + 1);
    for (std::size_t node = 0; node <= count; ++node) {
      if (!is_wanted(node)) continue;
      const node_view at = view_of(node);
      rows_of<T>& base = own[at.node];
      if (!base.first) {
        const std::ptrdiff_t step =
            row_step<T>(at.node || !net.sparse_input ? net.width_of(at.node) : 0);
        memory_.emplace_back(batch * net.copies_at(at.node) * step).fill(0);
        base = {memory_.back().data(), step};
      }
      all[node] = {base.first + at.begin, base.step};
    }
    return all;
  };
  activations_ = rooms([&](std::size_t node) { return net.values_of(node); },
                       [](std::size_t) { return true; });
  gradients_ = rooms([&](std::size_t node) { return net.gradients_of(node); },
                     [&](std::size_t node) { return has_gradient_[node]; });
  for (std::size_t l = 0; l < count; ++l)
    net.layers[l]->reserve(batch * net.copies_at(net.sources[l]));
}

template <class T>
auto passes<T>::rows_of_rank(std::ptrdiff_t n, std::ptrdiff_t rank) const -> row_range {
  const std::ptrdiff_t block = net_.block_of(n), blocks = ceil_div(n, block);
  return {between_->begin_of(blocks, rank) * block,
          std::min(n, between_->begin_of(blocks, rank + 1) * block)};
}

template <class T>
void passes<T>::each_block(std::ptrdiff_t n, double cost, block_function f) const {
  const std::ptrdiff_t block = net_.block_of(n);
  const row_range own = between_ ? rows_of_rank(n, between_->rank()) : row_range{0, n};
  const std::ptrdiff_t first = own.begin / block, count = ceil_div(own.end, block) - first;
  step_region(count, cost * double(own.end - own.begin) / double(n), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t begin = (first + i) * block;
    f(begin, std::min(block, n - begin));
  });
}

template <class T>
void passes<T>::add_memory(ranks::message& m, const rows_of<T>& of, std::size_t node,
                           std::ptrdiff_t n) const {
  for (std::ptrdiff_t rank = 0; rank < between_->size(); ++rank) {
    const row_range own = rows_of_rank(n, rank);
    const rows_of<T> from = of.from(own.begin * net_.copies_at(node));
    m.add(rank, from.first, (own.end - own.begin) * net_.copies_at(node) * of.step);
  }
}

// The rows of a node, whole as they lie in memory.
template <class T>
void passes<T>::exchange(const std::vector<rows_of<T>>& all, const node_view& at,
                         std::ptrdiff_t n) const {
  ranks::message m(*between_);
  add_memory(m, all[at.node], at.node, n);
  between_->exchange(m);
}

template <class T>
template <class F>
void passes<T>::each_exchanged(const F& f) const {
  const std::size_t count = net_.layers.size();
  std::vector<bool> has_values(count + 1), has_gradient(count + 1);
  const auto add = [&](const auto& memory, const node_view& at, std::vector<bool>& has) {
    if (!has[at.node]) f(memory[at.node], at.node);
    has[at.node] = true;
  };
  has_values[0] = true;  // all ranks have read the inputs
  add(activations_, net_.values_of(count), has_values);
  for (std::size_t l = 0; l < count; ++l) {
    if (!net_.layers[l]->learns()) continue;
    add(activations_, net_.values_of(net_.sources[l]), has_values);
    add(gradients_, net_.gradients_of(l + 1), has_gradient);
  }
}

template <class T>
void passes<T>::add_rows(ranks::message& m, std::ptrdiff_t n) const {
  each_exchanged([&](const rows_of<T>& of, std::size_t node) { add_memory(m, of, node, n); });
  for (std::size_t l = 0; l < net_.layers.size(); ++l)
    for (std::ptrdiff_t rank = 0; rank < between_->size(); ++rank) {
      const row_range own = rows_of_rank(n, rank);
      const std::ptrdiff_t copies = net_.copies_at(net_.sources[l]);
      net_.layers[l]->add_kept(m, rank, own.begin * copies, own.end * copies);
    }
}

template <class T>
void passes<T>::take_rows(std::ptrdiff_t n) const {
  for (std::size_t l = 0; l < net_.layers.size(); ++l)
    net_.layers[l]->take_kept(n * net_.copies_at(net_.sources[l]));
}

template <class T>
double passes<T>::exchanged_bytes() const {
  double bytes = 0;
  each_exchanged([&](const rows_of<T>& of, std::size_t node) {
    bytes += double(of.step * net_.copies_at(node)) * double(sizeof(T));
  });
  return bytes;
}

template <class T>
void passes<T>::forward(std::ptrdiff_t n, block_function begin_block, block_function end_block) {
  if (n == 0) return;
  const std::size_t count = net_.layers.size();
  const double cost = net_.cost() * double(n);
  std::size_t from = 0;
  do {
    // Up to the next layer of the whole batch.
    std::size_t to = from + 1;
    while (to < count && !net_.layers[to]->statistics) ++to;
    const layer<T>& first = *net_.layers[from];
    batch_statistics<T>* const statistics = first.statistics;
    const bool gathered = from == 0 && statistics;
    if (gathered) each_block(n, 0, begin_block);
    if (between_ && statistics && from > 0) {
      const node_view at = net_.values_of(net_.sources[from]);
      if (at.node > 0) exchange(activations_, at, n);
    }
    if (statistics) {
      statistics->begin_batch();
      const std::ptrdiff_t rows = n * net_.copies_at(net_.sources[from]);
      step_region(first.parts(), first.cost * double(rows),
                  [&](std::ptrdiff_t i) { statistics->collect(i, inputs_of(from).read(), rows); });
      statistics->end_batch(rows);
    }
    each_block(n, 2.5 * cost, [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
      if (from == 0 && !gathered) begin_block(begin, m);
      for (std::size_t l = from; l < to; ++l)
        if (!net_.layers[l]->fused_forward)
          net_.layers[l]->forward(inputs_of(l, begin).read(), outputs_of(l, begin),
                                  pass_of(l, begin, m, n));
      if (to == count) end_block(begin, m);
    });
    from = to;
  } while (from < count);
}

// The highest layer of the whole batch below `top` that the way back comes to; `top` if none.
template <class T>
std::size_t passes<T>::next_of_batch(std::size_t top) const {
  for (std::size_t l = top; l-- > 0;)
    if (net_.layers[l]->statistics && reaches(l)) return l;
  return top;
}

// Rows of a block back from layer top - 1 on, down to the next layer of the whole batch, or
// `through` this one if it is the first: from there on all other blocks must have come as far.
template <class T>
void passes<T>::backward_block(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m,
                               std::size_t top, bool through) {
  for (std::size_t l = top; l-- > 0;) {
    const layer<T>& own = *net_.layers[l];
    if (own.statistics && reaches(l) && !(through && l + 1 == top)) return;
    if (own.fused_backward || !goes_through(l)) continue;
    own.backward(gradients_of(l, begin).read(), inputs_of(l, begin).read(),
                 at_node(gradients_, net_.sources[l], begin), pass_of(l, begin, m, n));
  }
}

template <class T>
void passes<T>::backward(std::ptrdiff_t n, bool begun) {
  const double cost = 1.5 * net_.cost() * double(n);
  std::size_t top = net_.layers.size();
  if (!begun)
    each_block(n, cost,
               [&](std::ptrdiff_t begin, std::ptrdiff_t m) { backward_block(n, begin, m); });
  for (std::size_t at; (at = next_of_batch(top)) < top; top = at) {
    const layer<T>& l = *net_.layers[at];
    const std::ptrdiff_t rows = n * net_.copies_at(net_.sources[at]);
    if (between_) exchange(gradients_, net_.gradients_of(at + 1), n);
    step_region(l.parts(), l.cost * double(rows), [&](std::ptrdiff_t i) {
      l.statistics->collect_backward(i, gradients_of(at).read(), inputs_of(at).read(), rows);
    });
    l.statistics->end_backward(rows);
    each_block(n, cost, [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
      backward_block(n, begin, m, at + 1, true);
    });
  }
}

template class passes<float>;
template class passes<double>;

}  // namespace dlcore
