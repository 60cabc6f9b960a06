// Columns of categories: each value is the number of a row of a table, which is read where it lies.
//
// The tables of several columns lie one below the other. Their rows side by side are embeddings;
// their sum is what a linear layer makes of one-hot columns, which never come into being.
#pragma once

#include <vector>

#include "network/layer.hpp"

namespace dlcore {

template <class T>
class embedding_layer final : public layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit embedding_layer(const embedding_spec<T>& spec);

  std::ptrdiff_t parts() const override { return ceil_div(rows_, part_rows_); }
  // The first part has the bias.
  typename layer<T>::range outputs_of(std::ptrdiff_t part) const override {
    return {part ? out : 0, out};
  }
  typename layer<T>::range weights_of(std::ptrdiff_t part) const override {
    return {part * part_rows_ * width_, std::min(rows_, (part + 1) * part_rows_) * width_};
  }
  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  // Codes have no gradient.
  void backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                const pass& p) const override;
  void gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
                T* dw, T* db, bool add) const override;

  // Of the tables: rows, elements of each, and the columns of y that a column of x gives.
  std::ptrdiff_t table_rows() const { return rows_; }
  std::ptrdiff_t width() const { return width_; }
  std::ptrdiff_t outputs_of_column(std::ptrdiff_t column) const {
    return is_sum_ ? 0 : column * width_;
  }
  // The row that stands for a value of a column; negative where it is `none`, or no category.
  static constexpr std::ptrdiff_t none = -1, bad = -2;
  std::ptrdiff_t row_of(std::ptrdiff_t column, T value) const {
    const std::ptrdiff_t begin = begins_[column], size = sizes_[column];
    if (value >= T(0) && value < T(size)) {
      const auto code = std::ptrdiff_t(value);
      return T(code) == value ? begin + code : bad;
    }
    if (value == value || missing_ == missing_category::error) return bad;
    return missing_ == missing_category::row ? begin + size : none;
  }

 private:
  const std::ptrdiff_t width_;
  const std::vector<std::ptrdiff_t> sizes_;
  std::vector<std::ptrdiff_t> begins_;  // of each column, its first row of the tables
  std::ptrdiff_t rows_ = 0, part_rows_ = 1;
  const missing_category missing_;
  const bool is_sum_;
};

}  // namespace dlcore
