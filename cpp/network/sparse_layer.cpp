#include "network/sparse_layer.hpp"

#include <algorithm>

namespace dlcore {

template <class T>
sparse_layer<T>::sparse_layer(const linear_spec<T>& spec) : linear_layer<T>(spec, false) {
  // What the update costs, spread over the rows of a batch of usual size: the products of the
  // elements that are there are little beside it.
  this->cost /= 10;
}

template <class T>
void sparse_layer<T>::begin_batch(const matrix_rows<T>& x, const std::int64_t* indices,
                                  std::ptrdiff_t, bool) {
  x_ = x, indices_ = indices;
}

template <class T>
double sparse_layer<T>::largest(std::ptrdiff_t begin, std::ptrdiff_t n) const {
  largest_of<T> all;
  for (std::ptrdiff_t r = begin; r < begin + n; ++r)
    visit(r, [&](const auto& row) { all.take(row.values, row.size); });
  return all.value();
}

template <class T>
void sparse_layer<T>::forward(rows_of<const T>, rows_of<T> y, const pass& p) const {
  const column_weights<T> weights = by_column();
  const std::ptrdiff_t terms = even_chunk(in, block_terms, 1);
  const T least = this->rectifies_outputs_ ? T(0) : finish<T>{}.least;
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    visit(p.begin + r, [&](const auto& row) {
      sparse_product(row, weights, terms, this->bias.value, least, y.row(r), out);
    });
}

template class sparse_layer<float>;
template class sparse_layer<double>;

}  // namespace dlcore
