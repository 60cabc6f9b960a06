#include "network/normalization_layer.hpp"

namespace dlcore {

namespace {

// f(begin, rows) of blocks of rows.
template <class F>
void each_block(std::ptrdiff_t rows, double cost, const F& f) {
  const std::ptrdiff_t block = block_of(rows);
  parallel_for(rows > 0 ? ceil_div(rows, block) : 0, cost,
               [&](std::ptrdiff_t b) { f(b * block, std::min(block, rows - b * block)); });
}

}  // namespace

template <class T>
void normalize(layer<T>& l, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows) {
  l.reserve(rows);
  const double cost = l.cost * double(rows);
  if (batch_statistics<T>* statistics = l.statistics) {
    statistics->begin_batch();
    parallel_for(l.parts(), cost, [&](std::ptrdiff_t i) { statistics->collect(i, x, rows); });
    statistics->end_batch(rows);
  }
  each_block(rows, 2 * cost, [&](std::ptrdiff_t begin, std::ptrdiff_t n) {
    l.forward(x.from(begin), y.from(begin), {begin, n, rows, true, 0});
  });
}

template <class T>
void normalize_backward(layer<T>& l, rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                        std::ptrdiff_t rows) {
  normalize(l, x, dx, rows);  // for what the layer keeps of x; dx is written again
  const double cost = l.cost * double(rows);
  if (batch_statistics<T>* statistics = l.statistics)
    parallel_for(l.parts(), cost,
                 [&](std::ptrdiff_t i) { statistics->collect_backward(i, dy, x, rows); });
  each_block(rows, 2 * cost, [&](std::ptrdiff_t begin, std::ptrdiff_t n) {
    l.backward(dy.from(begin), x.from(begin), dx.from(begin), {begin, n, rows, true, 0});
  });
  parallel_for(l.parts(), cost, [&](std::ptrdiff_t i) {
    const std::ptrdiff_t begin = l.outputs_of(i).begin;
    const auto part = [&](T* gradient) { return gradient ? gradient + begin : nullptr; };
    l.gradient(i, dy, x, rows, part(l.weight.gradient), part(l.bias.gradient), false);
  });
}

template void normalize(layer<float>&, rows_of<const float>, rows_of<float>, std::ptrdiff_t);
template void normalize(layer<double>&, rows_of<const double>, rows_of<double>, std::ptrdiff_t);
template void normalize_backward(layer<float>&, rows_of<const float>, rows_of<const float>,
                                 rows_of<float>, std::ptrdiff_t);
template void normalize_backward(layer<double>&, rows_of<const double>, rows_of<const double>,
                                 rows_of<double>, std::ptrdiff_t);

}  // namespace dlcore
