// The first layer of a network whose inputs are rows of a sparse matrix, which never become dense.
//
// The way forward needs, of each column that occurs in a batch, the weights to all outputs side by
// side, while they lie one output after the other. They are gathered once a batch, which reads about
// as much memory as the update writes anyway. The gradient of an output is a row of its own again,
// to which the elements of the batch are added where they belong: so it is updated by whatever
// updates any other layer, and no optimizer state is ever moved.
#pragma once

#include <vector>

#include "kernels/sparse_product.hpp"
#include "network/linear_layer.hpp"

namespace dlcore {

template <class T>
class sparse_linear_layer : public linear_layer<T> {
 public:
  using layer<T>::in;
  using layer<T>::out;

  explicit sparse_linear_layer(const linear_spec<T>& spec);

  // Takes the rows of a batch: those of these indices, or all from the first one on. Both stay
  // where they are until the next batch; the passes count rows of the batch.
  void begin_batch(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n);
  // The largest absolute value in some rows of the batch.
  double largest(std::ptrdiff_t begin, std::ptrdiff_t n) const;

  void forward(rows_of<const T> x, rows_of<T> y, const pass& p) const override;
  void forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const override {
    forward(x, y, p);
  }
  void pack(std::ptrdiff_t, bool) override {}

 protected:
  void fresh_gradient(typename layer<T>::range outputs, rows_of<const T> dy, rows_of<const T> x,
                      std::ptrdiff_t rows, T* dw, T* db) const override;

 private:
  matrix_rows<T> x_;
  const std::int64_t* indices_ = nullptr;
  std::vector<unsigned char> occurs_;              // whether a column does, while they are listed
  std::vector<std::int32_t> columns_, place_;      // those that do, and the place of each there
  std::unique_ptr<vec<T>[]> weights_;              // by column
  std::ptrdiff_t step_, capacity_ = 0;

  // f(row) of a row of the batch.
  template <class F>
  void visit(std::ptrdiff_t r, const F& f) const {
    x_.sparse->visit(reinterpret_cast<const T*>(x_.data), indices_ ? indices_[r] : r, f);
  }
  T* weights() const { return reinterpret_cast<T*>(weights_.get()); }
  void list_columns(std::ptrdiff_t n);
  void gather_weights();
};

}  // namespace dlcore
