#include <algorithm>

#include "core/workspace.hpp"
#include "kernels/elementwise.hpp"
#include "network/sparse_layer.hpp"

namespace dlcore {

namespace {

// Of a part's gradient and of the sums of a block of rows: both stay in the second cache, with what
// the update reads and writes beside them.
constexpr std::ptrdiff_t part_bytes = 1 << 15;

}  // namespace

template <class T>
input_major_layer<T>::input_major_layer(const linear_spec<T>& spec)
    : sparse_layer<T>(spec), part_bits_(0) {
  const std::ptrdiff_t most = std::min(part_bytes / (out * std::ptrdiff_t(sizeof(T))), in / 8);
  while (std::ptrdiff_t(2) << part_bits_ <= most) ++part_bits_;
  part_inputs_ = std::ptrdiff_t(1) << part_bits_;
}

template <class T>
void input_major_layer<T>::begin_batch(const matrix_rows<T>& x, const std::int64_t* indices,
                                       std::ptrdiff_t n, bool training) {
  sparse_layer<T>::begin_batch(x, indices, n, training);
  if (!training) return;
  // A counting sort by part, which keeps the order of the rows.
  ends_.assign(parts() + 1, 0);
  const auto each_row = [&](const auto& f) {
    for (std::ptrdiff_t r = 0; r < n; ++r) this->visit(r, [&](const auto& row) { f(r, row); });
  };
  each_row([&](std::ptrdiff_t, const auto& row) {
    for (std::ptrdiff_t k = 0; k < row.size; ++k) ++ends_[(row.columns[k] >> part_bits_) + 1];
  });
  for (std::size_t i = 1; i < ends_.size(); ++i) ends_[i] += ends_[i - 1];
  elements_.resize(ends_.back());
  each_row([&](std::ptrdiff_t r, const auto& row) {
    for (std::ptrdiff_t k = 0; k < row.size; ++k) {
      const std::ptrdiff_t column = row.columns[k];
      elements_[ends_[column >> part_bits_]++] = {row.values[k], std::int32_t(r),
                                                  std::int32_t(column & (part_inputs_ - 1))};
    }
  });
}

template <class T>
void input_major_layer<T>::fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy,
                                          rows_of<const T>, std::ptrdiff_t rows, T* dw,
                                          T* db) const {
  struct tag;
  const range outputs = outputs_of(part);
  if (db) this->sum_columns(dy, outputs.begin, outputs.size(), rows, db);
  if (!dw) return;
  const std::ptrdiff_t size = weights_of(part).size();
  std::fill_n(dw, size, T(0));
  const element *first = elements_.data() + (part == 0 ? 0 : ends_[part - 1]),
                *const last = elements_.data() + ends_[part];
  // As many rows by themselves as in the product of a dense batch.
  const std::ptrdiff_t some = even_chunk(rows, block_terms, 1);
  if (rows <= some) {
    for (; first < last; ++first)
      add_scaled(dy.row(first->row), first->value, out, dw + first->column * out);
    return;
  }
  T* const sums = thread_buffer<T, tag>(size);
  std::vector<std::ptrdiff_t> block_of_column(part_inputs_, -1);
  const auto end_block = [&](std::ptrdiff_t column) {
    add_run(sums + column * out, dw + column * out, out);
  };
  for (; first < last; ++first) {
    const std::ptrdiff_t column = first->column, block = first->row / some;
    if (block != block_of_column[column]) {
      if (block_of_column[column] >= 0) end_block(column);
      block_of_column[column] = block;
      std::fill_n(sums + column * out, out, T(0));
    }
    add_scaled(dy.row(first->row), first->value, out, sums + column * out);
  }
  for (std::ptrdiff_t column = 0; column < part_inputs_; ++column)
    if (block_of_column[column] >= 0) end_block(column);
}

template class input_major_layer<float>;
template class input_major_layer<double>;

}  // namespace dlcore
