#include "network/inference.hpp"

#include <atomic>
#include <utility>

#include "core/workspace.hpp"

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
  if (is_fixed) first_->keep_packed();
}

template <class T>
bool inference<T>::run(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows, bool check) {
  if (is_fixed_ || rows <= few_rows) return run_on(*first_, x, y, rows, rows <= few_rows, check);
  const borrowed own(*this);
  own.net().pack(false);
  return run_on(own.net(), x, y, rows, false, check);
}

template <class T>
bool inference<T>::run_on(network<T>& net, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows,
                          bool few, bool check) const {
  const flush_subnormals flushed;  // as a training step does
  std::atomic<bool> finite{true};
  const auto& layers = net.layers;
  const std::ptrdiff_t block = few ? std::max<std::ptrdiff_t>(rows, 1) : block_of(rows);
  std::ptrdiff_t widest = 0;
  for (const auto& l : layers) widest = std::max(widest, row_step<T>(l->out));
  const auto run_block = [&](std::ptrdiff_t b) {
    struct tag;
    const std::ptrdiff_t begin = b * block, n = std::min(block, rows - begin);
    T* buffer = thread_buffer<T, tag>(2 * block * widest);
    T* other = buffer + block * widest;
    rows_of<const T> from = x.from(begin);
    for (std::ptrdiff_t r = 0; check && r < n; ++r)
      if (!all_finite(from.row(r), net.in())) return finite.store(false, std::memory_order_relaxed);
    std::size_t count = layers.size();
    while (layers[count - 1]->fused_forward) --count;
    for (std::size_t l = 0; l < count; ++l) {
      if (layers[l]->fused_forward) continue;
      const bool last = l + 1 == count;
      const rows_of<T> to = last ? y.from(begin) : rows_of<T>{buffer, row_step<T>(layers[l]->out)};
      const pass p{begin, n, rows, false, 0};
      if (few) layers[l]->forward_few(from, to, p);
      else layers[l]->forward(from, to, p);
      from = to.read();
      std::swap(buffer, other);
    }
  };
  // Few rows share threads within the layers.
  if (few && rows > 0) run_block(0);
  else parallel_for(ceil_div(rows, block), net.cost() * double(rows), run_block);
  return finite.load();
}

template class inference<float>;
template class inference<double>;

}  // namespace dlcore
