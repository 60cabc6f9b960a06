#include "network/embedding_layer.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

// Rows ahead whose place in a table is asked for, since the processor cannot know it.
constexpr std::ptrdiff_t rows_ahead = 8;

}  // namespace

template <class T>
embedding_layer<T>::embedding_layer(const embedding_spec<T>& spec)
    : layer<T>(
          std::ptrdiff_t(spec.sizes.size()),
          spec.embedding_dim * (spec.is_sum ? 1 : std::max<std::ptrdiff_t>(1, spec.sizes.size()))),
      width_(spec.embedding_dim),
      sizes_(spec.sizes),
      missing_(spec.missing),
      is_sum_(spec.is_sum) {
  this->weight = spec.weight, this->bias = spec.bias;
  for (const std::ptrdiff_t size : sizes_) {
    begins_.push_back(rows_);
    rows_ += size + (missing_ == missing_category::row);
  }
  // Each part looks at all codes of a batch: not too many of them, and none of next to nothing.
  part_rows_ = std::max({std::ptrdiff_t(1), ceil_div(rows_, std::ptrdiff_t(16)),
                         ceil_div(std::ptrdiff_t(4096), width_)});
  this->cost = 3 * double(in) + nanoseconds<T>(0.15, in * width_);
  // Whatever the codes are, and even if NaN is one of them.
  this->forward_growth = {0, is_sum_ ? double(in + 1) : 1.0, true};
  this->backward_growth = {0, 0};
  this->gradient_growth = {0, 1};
  this->dx_over_dy = false;
}

template <class T>
void embedding_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const T *const table = this->weight.value, *const bias = this->bias.value;
  bool is_fine = true;
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    T* const to = y.row(r);
    if (is_sum_ && bias) std::copy_n(bias, width_, to);
    else std::fill_n(to, out, T(0));
    for (std::ptrdiff_t c = 0; c < in; ++c) {
      if (r + rows_ahead < p.n) {
        const std::ptrdiff_t next = row_of(c, x.row(r + rows_ahead)[c]);
        if (next >= 0) prefetch(table + next * width_, 0);
      }
      const std::ptrdiff_t row = row_of(c, x.row(r)[c]);
      is_fine = is_fine && row != bad;
      if (row < 0) continue;
      if (is_sum_) add_run(table + row * width_, to, width_);
      else std::copy_n(table + row * width_, width_, to + c * width_);
    }
  }
  if (!is_fine && p.bad_code) p.bad_code->store(true, std::memory_order_relaxed);
}

template <class T>
void embedding_layer<T>::backward(rows_of<const T>, rows_of<const T>, rows_of<T> dx,
                                  const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r) std::fill_n(dx.row(r), in, T(0));
}

template <class T>
void embedding_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                  std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const auto weights = this->weights_of(part), outputs = this->outputs_of(part);
  const std::ptrdiff_t first = weights.begin / width_, last = weights.end / width_;
  if (dw && !add) std::fill_n(dw, weights.size(), T(0));
  if (db && !add) std::fill_n(db, outputs.size(), T(0));
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    if (db && outputs.size() > 0) add_run(dy.row(r), db, outputs.size());
    for (std::ptrdiff_t c = 0; dw && c < in; ++c) {
      const std::ptrdiff_t row = row_of(c, x.row(r)[c]);
      if (row >= first && row < last)
        add_run(dy.row(r) + outputs_of_column(c), dw + (row - first) * width_, width_);
    }
  }
}

template class embedding_layer<float>;
template class embedding_layer<double>;

}  // namespace dlcore
