#include "network/inference.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/workspace.hpp"
#include "network/sparse_layer.hpp"

namespace dlcore {

// A network for one call, which is given back when the call ends, by an exception or not.
template <class T>
class inference<T>::borrowed {
 public:
  explicit borrowed(inference& from) : from_(from) {
    const std::lock_guard<std::mutex> locked(from.mutex_);
    if (from.idle_) {
      own_ = std::move(from.idle_);
      from.idle_ = std::move(own_->next);
    } else {
      own_.reset(new entry{network<T>(from.layers_), nullptr});
    }
  }
  borrowed(const borrowed&) = delete;
  ~borrowed() {
    const std::lock_guard<std::mutex> locked(from_.mutex_);
    own_->next = std::move(from_.idle_);
    from_.idle_ = std::move(own_);
  }
  network<T>& net() const { return own_->net; }

 private:
  inference& from_;
  std::unique_ptr<entry> own_;
};

template <class T>
inference<T>::inference(std::vector<layer_spec<T>> layers, bool is_fixed)
    : layers_(std::move(layers)),
      is_fixed_(is_fixed),
      idle_(new entry{network<T>(layers_), nullptr}) {
  first_ = &idle_->net;
  plan(*first_);
  if (is_fixed) first_->keep_packed();
}

// Gives each node that others lie in a buffer from the first layer that writes there to the last
// one that reads it.
template <class T>
void inference<T>::plan(const network<T>& net) {
  const std::size_t count = net.layers.size();
  std::vector<std::size_t> last_reader(count + 1, 0);
  for (std::size_t l = 0; l < count; ++l) {
    last_reader[net.values_of(net.sources[l]).node] = l;
    for (const std::size_t end : net.ends_at(l)) last_reader[net.values_of(end).node] = l;
  }
  const std::size_t outputs = net.values_of(count).node;
  std::vector<std::ptrdiff_t> buffer_of(count + 1, -1);
  std::vector<std::size_t> held;  // by buffer: the node in it, or 0
  const auto place_of = [&](std::size_t node) -> place {
    const node_view at = net.values_of(node);
    const std::ptrdiff_t copies = net.copies_at(node);
    if (at.node == 0) return {place::input, at.begin, 0, copies};
    if (at.node == outputs) return {place::output, at.begin, 0, copies};
    std::ptrdiff_t& own = buffer_of[at.node];
    if (own < 0) {
      own = std::find(held.begin(), held.end(), 0) - held.begin();
      if (own == std::ptrdiff_t(held.size())) held.push_back(0);
      held[own] = at.node;
    }
    const std::ptrdiff_t step = row_step<T>(net.width_of(at.node));
    widest_ = std::max(widest_, step * copies);
    return {own, at.begin, step, copies};
  };
  for (std::size_t l = 0; l < count; ++l) {
    if (!net.layers[l]->fused_forward)
      moves_.push_back({l, place_of(net.sources[l]), place_of(l + 1)});
    for (std::size_t& node : held)
      if (node && last_reader[node] <= l) node = 0;
  }
  buffers_ = std::ptrdiff_t(held.size());
}

template <class T>
bool inference<T>::run(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows, bool check) {
  const bool few = rows * first_->most_copies() <= few_rows;
  if (is_fixed_ || few) return run_on(*first_, x, y, rows, few, check);
  const borrowed own(*this);
  own.net().pack(false);
  return run_on(own.net(), x, y, rows, false, check);
}

template <class T>
bool inference<T>::run(const matrix_rows<T>& x, rows_of<T> y, std::ptrdiff_t rows) {
  const borrowed own(*this);
  const bool few = rows * first_->most_copies() <= few_rows;
  if (!few) own.net().pack(false);
  own.net().sparse_input->begin_batch(x, nullptr, rows, false);
  return run_on(own.net(), {nullptr, 0}, y, rows, few, false);
}

template <class T>
bool inference<T>::run_on(network<T>& net, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows,
                          bool few, bool check) const {
  const flush_subnormals flushed;  // as a training step does
  std::atomic<bool> finite{true}, bad_code{false};
  const std::ptrdiff_t block = few ? std::max<std::ptrdiff_t>(rows, 1) : net.block_of(rows);
  const auto run_block = [&](std::ptrdiff_t b) {
    struct tag;
    const std::ptrdiff_t begin = b * block, n = std::min(block, rows - begin);
    T* const buffers = thread_buffer<T, tag>(buffers_ * block * widest_);
    const rows_of<const T> input = x.from(begin);
    const rows_of<T> output = y.from(begin);
    for (std::ptrdiff_t r = 0; check && r < n; ++r)
      if (!all_finite(input.row(r), net.in()))
        return finite.store(false, std::memory_order_relaxed);
    const auto written = [&](const place& at) -> rows_of<T> {
      if (at.buffer == place::output) return {output.first + at.begin, output.step / at.copies};
      return {buffers + at.buffer * block * widest_ + at.begin, at.step};
    };
    for (const move& m : moves_) {
      const std::ptrdiff_t copies = m.from.copies;
      const pass p{begin * copies, n * copies, rows * copies, false, 0, &bad_code};
      const rows_of<const T> from = m.from.buffer == place::input
                                        ? rows_of<const T>{input.first + m.from.begin, input.step}
                                        : written(m.from).read();
      if (few) net.layers[m.layer]->forward_few(from, written(m.to), p);
      else net.layers[m.layer]->forward(from, written(m.to), p);
    }
  };
  // Few rows share threads within the layers.
  if (few && rows > 0) run_block(0);
  else parallel_for(ceil_div(rows, block), net.cost() * double(rows), run_block);
  return finite.load() && !bad_code.load();
}

template class inference<float>;
template class inference<double>;

}  // namespace dlcore
