// The first layer of a network whose inputs are rows of a sparse matrix, which never become dense.
//
// A linear layer that computes with the elements of a batch where they lie. Its products take a
// time that grows with their number alone; the update takes all weights, as that of any other layer
// does: momentum, penalties and Adam's means move those of columns that do not occur as well, and
// results are those of dense rows.
#pragma once

#include <vector>

#include "core/register_array.hpp"
#include "kernels/sparse_product.hpp"
#include "network/linear_layer.hpp"

namespace dlcore {

template <class T>
class sparse_layer : public linear_layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit sparse_layer(const linear_spec<T>& spec);

  // Takes the rows of a batch: those of these indices, or all from the first one on. Both stay
  // where they are until the next batch; the passes count rows of the batch. `training`: they will
  // go back as well.
  virtual void begin_batch(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n,
                           bool training);
  // The largest absolute value in some rows of the batch.
  double largest(std::ptrdiff_t begin, std::ptrdiff_t n) const;

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    forward(x, y, p);
  }
  void pack(std::ptrdiff_t, bool) override {}

 protected:
  // f(row) of a row of the batch.
  template <class F>
  void visit(std::ptrdiff_t r, const F& f) const {
    x_.sparse->visit(reinterpret_cast<const T*>(x_.data), indices_ ? indices_[r] : r, f);
  }
  // The weights that the way forward reads.
  virtual column_weights<T> by_column() const = 0;

 private:
  matrix_rows<T> x_;
  const std::int64_t* indices_ = nullptr;
};

// Weights of shape out x in. The way forward needs those of a column that occurs side by side, so
// they are gathered once a batch, which reads no more memory than the update writes. The gradient
// of an output is a row of its own again, to which elements are added where they belong.
template <class T>
class gathering_sparse_layer final : public sparse_layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit gathering_sparse_layer(const linear_spec<T>& spec);
  void begin_batch(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n,
                   bool training) override;

 protected:
  column_weights<T> by_column() const override { return {weights(), step_, place_.data(), true}; }
  void fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                      std::ptrdiff_t rows, T* dw, T* db) const override;

 private:
  std::vector<unsigned char> occurs_;          // whether a column does, while they are listed
  std::vector<std::int32_t> columns_, place_;  // those that do, and the place of each there
  register_array<T> weights_;                  // by column
  std::ptrdiff_t step_, capacity_ = 0;

  T* weights() const { return weights_.data(); }
  void list_columns(std::ptrdiff_t n);
  void gather_weights();
};

// Weights of shape in x out: those of a column lie side by side. A part of them are some inputs,
// whose elements in a batch are put together, in the order of the rows.
template <class T>
class input_major_layer final : public sparse_layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;
  using typename layer<T>::range;

  explicit input_major_layer(const linear_spec<T>& spec);
  void begin_batch(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n,
                   bool training) override;

  std::ptrdiff_t parts() const override { return ceil_div(in, part_inputs_); }
  range outputs_of(std::ptrdiff_t part) const override { return {part == 0 ? 0 : out, out}; }
  range weights_of(std::ptrdiff_t part) const override {
    const range inputs = inputs_of(part);
    return {inputs.begin * out, inputs.end * out};
  }

 protected:
  column_weights<T> by_column() const override { return {this->weight.value, out, nullptr, false}; }
  void fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                      std::ptrdiff_t rows, T* dw, T* db) const override;

 private:
  struct element {
    T value;
    std::int32_t row, column;  // of the batch, of the part
  };
  int part_bits_;
  std::ptrdiff_t part_inputs_;
  std::vector<element> elements_;  // of a batch, by part
  std::vector<std::ptrdiff_t> ends_;

  range inputs_of(std::ptrdiff_t part) const {
    return {part * part_inputs_, std::min(in, (part + 1) * part_inputs_)};
  }
};

}  // namespace dlcore
