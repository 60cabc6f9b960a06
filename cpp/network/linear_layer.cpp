#include "network/linear_layer.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.hpp"
#include "kernels/gemv.hpp"

namespace dlcore {

namespace {

template <class T>
auto transposing(rows_of<const T> x) {
  return [x](std::ptrdiff_t i, std::ptrdiff_t rows, std::ptrdiff_t height, std::ptrdiff_t p,
             std::ptrdiff_t terms,
             T* to) { return tile_of_rows<T>(x.row(i) + p, x.step, rows, height, terms, to); };
}

}  // namespace

template <class T>
linear_layer<T>::linear_layer(const linear_spec<T>& spec, bool has_panels)
    : layer<T>(spec.in_features, spec.out_features),
      max_norm(spec.max_norm),
      forward_panels_(has_panels ? register_array<T>(ceil_div(out, panel) * in * panel)
                                 : register_array<T>()) {
  this->weight = {spec.weight.value, spec.weight.gradient, in * out};
  this->bias = {spec.bias.value, spec.bias.gradient, spec.bias.value ? out : 0};
  this->cost = double(in) * double(out) * double(sizeof(T)) / 200;
  this->forward_growth = {double(in), 1, true};
  this->backward_growth = {double(out), 0, true};
  this->dx_over_dy = false;
  this->gradient_growth = {1, 0};
  this->part_outputs_ =
      even_chunk(out, std::clamp<std::ptrdiff_t>(out / 8, panel, 2 * panel), panel);
  // Rows of the weights that crowd the first cache are not read where they lie.
  if (has_panels && in * std::ptrdiff_t(sizeof(T)) % 512 == 0 && in > 0) reserve_backward_panels();
}

template <class T>
void linear_layer<T>::reserve_backward_panels() {
  if (!backward_panels_) backward_panels_ = register_array<T>(ceil_div(in, panel) * out * panel);
}

template <class T>
void linear_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  if (p.n == 1) return forward_row(x.first, y.first, 0, out, forward_panels());
  forward_columns(x, y, p.n, 0, out, forward_panels());
}

template <class T>
void linear_layer<T>::forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  if (is_packed_) return forward_few_packed(x, y, p.n);
  // Mostly the time to read the weights.
  const double cost = nanoseconds<T>(0.12, in * out) + double(p.n) * this->cost;
  parallel_for(ceil_div(out, panel), cost, [&](std::ptrdiff_t i) {
    struct tag;
    const std::ptrdiff_t begin = i * panel, end = std::min(out, begin + panel);
    T* packed = thread_buffer<T, tag>(panel * in + vec<T>::size);
    pack_outputs(begin, end, packed);
    forward_columns(x, y, p.n, begin, end - begin, packed);
  });
}

template <class T>
void linear_layer<T>::forward_few_packed(rows_of<const T> x, rows_of<T> y, std::ptrdiff_t n) const {
  constexpr std::ptrdiff_t columns = panels_of_row * panel;
  const double cost = nanoseconds<T>(0.06, in * out) + double(n - 1) * this->cost;
  parallel_for(ceil_div(out, columns), cost, [&](std::ptrdiff_t i) {
    const std::ptrdiff_t begin = i * columns, count = std::min(columns, out - begin);
    const T* const packed = forward_panels() + begin * in;
    if (n == 1) forward_row(x.first, y.first, begin, count, packed);
    else forward_columns(x, y, n, begin, count, packed);
  });
}

template <class T>
void linear_layer<T>::forward_row(const T* x, T* y, std::ptrdiff_t begin, std::ptrdiff_t count,
                                  const T* packed) const {
  const T* const start = this->bias.value ? this->bias.value + begin : nullptr;
  product_of_row<T>(x, count, in, packed, y + begin, start,
                    rectifies_outputs_ ? T(0) : finish<T>().least);
}

template <class T>
void linear_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                               const pass& p) const {
  finish<T> last;
  if (rectifies_inputs_) last.gate = x.first, last.gate_step = x.step, last.factor = input_factor_;
  backward_columns(dy, dx, p.n, 0, in, last);
}

template <class T>
__attribute__((noinline)) void linear_layer<T>::forward_columns(rows_of<const T> x, rows_of<T> y,
                                                                std::ptrdiff_t n,
                                                                std::ptrdiff_t begin,
                                                                std::ptrdiff_t count,
                                                                const T* packed) const {
  finish<T> last;
  if (rectifies_outputs_) last.least = T(0);
  const T* start = this->bias.value ? this->bias.value + begin : nullptr;
  product<T>(
      n, count, in, transposing(x),
      [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
        return dlcore::panel<T>{packed + j * in + p * panel, panel, columns, true};
      },
      y.first + begin, y.step, start, last);
}

template <class T>
__attribute__((noinline)) void linear_layer<T>::backward_columns(rows_of<const T> dy, rows_of<T> dx,
                                                                 std::ptrdiff_t n,
                                                                 std::ptrdiff_t begin,
                                                                 std::ptrdiff_t count,
                                                                 const finish<T>& last) const {
  const T *packed = backward_panels(), *weight = this->weight.value;
  product<T>(
      n, count, out, transposing(dy),
      [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
        return packed
                   ? dlcore::panel<T>{packed + (begin + j) * out + p * panel, panel, columns, true}
                   : dlcore::panel<T>{weight + p * in + begin + j, in, columns, false};
      },
      dx.first + begin, dx.step, nullptr, last);
}

template <class T>
void linear_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                               std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  if (!add) return fresh_gradient(part, dy, x, rows, dw, db);
  struct tag;
  const std::ptrdiff_t weights = this->weights_of(part).size(), m = this->outputs_of(part).size();
  T* fresh = thread_buffer<T, tag>(weights + m);
  fresh_gradient(part, dy, x, rows, dw ? fresh : nullptr, db ? fresh + weights : nullptr);
  const auto sum = [](vec<T> a, vec<T> b) { return a + b; };
  if (dw) map_run<T>(sum, dw, weights, 0, dw, fresh);
  if (db) map_run<T>(sum, db, m, 0, db, fresh + weights);
}

// dW = dy^T x, and db, the sums of dy.
template <class T>
void linear_layer<T>::fresh_gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                     std::ptrdiff_t rows, T* dw, T* db) const {
  const auto outputs = this->outputs_of(part);
  if (rows == 1) {
    for (std::ptrdiff_t i = 0; dw && i < outputs.size(); ++i)
      scale_run<T>(x.first, dy.first[outputs.begin + i], in, dw + i * in);
  } else if (dw) {
    product<T>(
        outputs.size(), in, rows,
        [&](std::ptrdiff_t i, std::ptrdiff_t n, std::ptrdiff_t height, std::ptrdiff_t p,
            std::ptrdiff_t terms, T* tile) {
          return tile_of_columns<T>(dy.row(p) + outputs.begin + i, dy.step, n, height, terms,
                                    ceil_div(in, panel), tile);
        },
        [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
          return dlcore::panel<T>{x.row(p) + j, x.step, columns, false};
        },
        dw, in, nullptr);
  }
  if (db) sum_columns(dy, outputs.begin, outputs.size(), rows, db);
}

template <class T>
void linear_layer<T>::sum_columns(rows_of<const T> dy, std::ptrdiff_t begin, std::ptrdiff_t m,
                                  std::ptrdiff_t rows, T* db) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  for (std::ptrdiff_t j = 0; j < m; j += w) {
    const auto get = [&](const T* p) { return load_up_to(p, m - j); };
    vec<T> sums[4] = {T(0), T(0), T(0), T(0)};  // enough of them in flight
    std::ptrdiff_t r = 0;
    for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[i] += get(dy.row(r + i) + begin + j);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i)
      if (r + i < rows) sums[i] += get(dy.row(r + i) + begin + j);
    store_up_to(db + j, (sums[0] + sums[1]) + (sums[2] + sums[3]), m - j);
  }
}

template <class T>
void linear_layer<T>::constrain(std::ptrdiff_t part) const {
  if (max_norm == 0 || !this->weight.gradient) return;
  const auto outputs = this->outputs_of(part);
  for (std::ptrdiff_t i = outputs.begin; i < outputs.end; ++i) {
    T* row = this->weight.value + i * in;
    double norm = std::sqrt(squares_of(row, in)), most = max_norm;
    if (norm >
        std::numeric_limits<double>::max()) {  // the squares overflow, or weights are infinite
      constexpr double factor = 0x1p-600;
      norm = std::sqrt(squares_of<T, true>(row, in, factor)), most *= factor;
    }
    if (!(norm > most)) continue;
    const vec<T> factor = T(most / norm);
    map_run<T>([=](vec<T> x) { return x * factor; }, row, in, 0, row);
  }
}

template <class T>
__attribute__((noinline)) void linear_layer<T>::pack_outputs(std::ptrdiff_t begin,
                                                             std::ptrdiff_t end, T* to) const {
  const T* weight = this->weight.value;
  for (std::ptrdiff_t j = begin; j < end; j += panel, to += panel * in)
    pack_transposed<T>([&](std::ptrdiff_t r) { return weight + (j + r) * in; },
                       std::min(panel, end - j), panel, in, to);
}

template <class T>
void linear_layer<T>::pack_inputs(std::ptrdiff_t part) {
  if (!backward_panels_) return;
  const T* weight = this->weight.value;
  const auto outputs = this->outputs_of(part);
  for (std::ptrdiff_t j = 0; j < in; j += panel)
    pack_straight<T>([&](std::ptrdiff_t r) { return weight + (outputs.begin + r) * in + j; },
                     std::min(panel, in - j), panel, outputs.size(),
                     backward_panels() + j * out + outputs.begin * panel);
}

template <class T>
void linear_layer<T>::pack(std::ptrdiff_t part, bool for_backward) {
  const auto outputs = this->outputs_of(part);
  pack_outputs(outputs.begin, outputs.end, forward_panels() + outputs.begin * in);
  if (for_backward) pack_inputs(part);
}

template class linear_layer<float>;
template class linear_layer<double>;

}  // namespace dlcore
