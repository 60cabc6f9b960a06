#include "network/passes.hpp"

#include <algorithm>

namespace dlcore {

template <class T>
passes<T>::passes(network<T>& net, std::ptrdiff_t batch, bool to_inputs) : net_(net) {
  const auto room = [&](std::ptrdiff_t width) {
    memory_.emplace_back(batch * row_step<T>(width)).fill(0);
    return rows_of<T>{memory_.back().data(), row_step<T>(width)};
  };
  const std::size_t count = net.layers.size();
  activations_.push_back(room(net.sparse_input ? 0 : net.in()));
  for (std::size_t l = 0; l < count; ++l) {
    const bool over = net.layers[l]->y_over_x && l > 0;
    activations_.push_back(over ? activations_.back() : room(net.layers[l]->out));
  }
  gradients_.resize(count + 1);
  gradients_[count] = room(net.out());
  lowest_ = count;
  for (std::size_t l = count; l-- > 0;)
    if (net.layers[l]->learns()) lowest_ = l;
  last_back_ = to_inputs ? 0 : lowest_ + 1;
  for (std::size_t l = count; l-- > last_back_;)
    gradients_[l] = net.layers[l]->dx_over_dy ? gradients_[l + 1] : room(net.layers[l]->in);
  for (const auto& l : net.layers) l->reserve(batch);
}

template <class T>
void passes<T>::each_block(std::ptrdiff_t n, double cost, block_function f) const {
  const std::ptrdiff_t block = block_of(n);
  step_region(ceil_div(n, block), cost,
              [&](std::ptrdiff_t b) { f(b * block, std::min(block, n - b * block)); });
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
    if (statistics) {
      statistics->begin_batch();
      step_region(first.parts(), first.cost * double(n),
                  [&](std::ptrdiff_t i) { statistics->collect(i, activations_[from].read(), n); });
      statistics->end_batch(n);
    }
    each_block(n, 2.5 * cost, [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
      if (from == 0 && !gathered) begin_block(begin, m);
      for (std::size_t l = from; l < to; ++l)
        if (!net_.layers[l]->fused_forward)
          net_.layers[l]->forward(activations_[l].from(begin).read(),
                                  activations_[l + 1].from(begin), {begin, m, n, true, key_});
      if (to == count) end_block(begin, m);
    });
    from = to;
  } while (from < count);
}

// The highest layer of the whole batch below `top` that the way back comes to; `top` if none.
template <class T>
std::size_t passes<T>::next_of_batch(std::size_t top) const {
  for (std::size_t l = top; l-- > std::min(lowest_, last_back_);)
    if (net_.layers[l]->statistics) return l;
  return top;
}

// Rows of a block back from layer top - 1 on, down to the next layer of the whole batch, or
// `through` this one if it is the first: from there on all other blocks must have come as far.
template <class T>
void passes<T>::backward_block(std::ptrdiff_t n, std::ptrdiff_t begin, std::ptrdiff_t m,
                               std::size_t top, bool through) {
  for (std::size_t l = top; l-- > last_back_;) {
    if (net_.layers[l]->statistics && !(through && l + 1 == top)) return;
    if (net_.layers[l]->fused_backward) continue;
    net_.layers[l]->backward(gradients_[l + 1].from(begin).read(),
                             activations_[l].from(begin).read(), gradients_[l].from(begin),
                             {begin, m, n, true, key_});
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
    step_region(l.parts(), l.cost * double(n), [&](std::ptrdiff_t i) {
      l.statistics->collect_backward(i, gradients_[at + 1].read(), activations_[at].read(), n);
    });
    each_block(n, cost, [&](std::ptrdiff_t begin, std::ptrdiff_t m) {
      backward_block(n, begin, m, at + 1, true);
    });
  }
}

template class passes<float>;
template class passes<double>;

}  // namespace dlcore
