#include <algorithm>
#include <cstring>

#include "core/workspace.hpp"
#include "kernels/elementwise.hpp"
#include "network/sparse_layer.hpp"

namespace dlcore {

namespace {

constexpr std::ptrdiff_t word = sizeof(std::uint64_t);

}  // namespace

template <class T>
gathering_sparse_layer<T>::gathering_sparse_layer(const linear_spec<T>& spec)
    : sparse_layer<T>(spec),
      occurs_(ceil_div(in, word) * word),
      place_(in),
      step_(ceil_div(out, vec<T>::size) * vec<T>::size) {
  // The gradient of a part stays in the second cache.
  this->part_outputs_ =
      std::clamp<std::ptrdiff_t>(65536 / std::max<std::ptrdiff_t>(in, 1), 1, ceil_div(out, 8));
}

template <class T>
void gathering_sparse_layer<T>::begin_batch(const matrix_rows<T>& x, const std::int64_t* indices,
                                            std::ptrdiff_t n, bool training) {
  sparse_layer<T>::begin_batch(x, indices, n, training);
  list_columns(n);
  gather_weights();
}

template <class T>
void gathering_sparse_layer<T>::list_columns(std::ptrdiff_t n) {
  constexpr std::ptrdiff_t rows = 64;
  std::ptrdiff_t elements = 0;
  for (std::ptrdiff_t r = 0; r < n; ++r)
    this->visit(r, [&](const auto& row) { elements += row.size; });
  parallel_for(ceil_div(n, rows), double(elements), [&](std::ptrdiff_t i) {
    for (std::ptrdiff_t r = i * rows; r < std::min(n, (i + 1) * rows); ++r)
      this->visit(r, [&](const auto& row) {
        for (std::ptrdiff_t k = 0; k < row.size; ++k)
          __atomic_store_n(&occurs_[row.columns[k]], 1, __ATOMIC_RELAXED);
      });
  });
  columns_.clear();
  for (std::ptrdiff_t begin = 0; begin < in; begin += word) {
    std::uint64_t some;
    std::memcpy(&some, occurs_.data() + begin, sizeof some);
    if (!some) continue;
    for (std::ptrdiff_t c = begin; c < begin + word; ++c)
      if (occurs_[c]) {
        place_[c] = std::int32_t(columns_.size());
        columns_.push_back(std::int32_t(c));
      }
    std::memset(occurs_.data() + begin, 0, sizeof some);
  }
}

template <class T>
void gathering_sparse_layer<T>::gather_weights() {
  const std::ptrdiff_t count = std::ptrdiff_t(columns_.size());
  if (count > capacity_) {
    capacity_ = 0;
    weights_ = {};
    weights_ = register_array<T>(count * step_);
    capacity_ = count;
  }
  // A line of the cache is written at once, from as many rows that are read from column to column.
  constexpr std::ptrdiff_t line = 64 / sizeof(T), chunk = 64;
  const T* const weight = this->weight.value;
  parallel_for(ceil_div(count, chunk), double(count) * double(out), [&](std::ptrdiff_t i) {
    const std::ptrdiff_t begin = i * chunk, end = std::min(count, begin + chunk);
    for (std::ptrdiff_t j = 0; j < step_; j += line) {
      const std::ptrdiff_t there = std::clamp<std::ptrdiff_t>(out - j, 0, line);
      const std::ptrdiff_t room = std::min(line, step_ - j);
      for (std::ptrdiff_t k = begin; k < end; ++k) {
        const T* from = weight + j * in + columns_[k];
        T* to = weights() + k * step_ + j;
        if (there == line) {
#pragma GCC unroll 16
          for (std::ptrdiff_t o = 0; o < line; ++o) to[o] = from[o * in];
          continue;
        }
        for (std::ptrdiff_t o = 0; o < there; ++o) to[o] = from[o * in];
        std::fill(to + there, to + room, T(0));
      }
    }
  });
}

template <class T>
void gathering_sparse_layer<T>::fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy,
                                               rows_of<const T>, std::ptrdiff_t rows, T* dw,
                                               T* db) const {
  struct tag;
  const auto outputs = this->outputs_of(part);
  // As many rows by themselves as in the product of a dense batch.
  const std::ptrdiff_t some = even_chunk(rows, block_terms, 1);
  T* const scratch = dw && rows > some ? thread_buffer<T, tag>(in) : nullptr;
  for (std::ptrdiff_t o = outputs.begin; dw && o < outputs.end; ++o, dw += in) {
    std::fill_n(dw, in, T(0));
    for (std::ptrdiff_t begin = 0; begin < rows; begin += some) {
      T* const to = begin == 0 ? dw : scratch;
      if (begin > 0) std::fill_n(to, in, T(0));
      for (std::ptrdiff_t r = begin; r < std::min(rows, begin + some); ++r)
        this->visit(r, [&](const auto& row) { add_scaled(row, dy.row(r)[o], to); });
      if (begin > 0) add_run<T>(to, dw, in);
    }
  }
  if (db) this->sum_columns(dy, outputs.begin, outputs.size(), rows, db);
}

template class gathering_sparse_layer<float>;
template class gathering_sparse_layer<double>;

}  // namespace dlcore
