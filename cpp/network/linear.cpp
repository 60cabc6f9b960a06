#include "network/linear.hpp"

#include <algorithm>

namespace dlcore {

namespace {

// How a product of m rows and n columns is cut for several threads: a function of its shape alone.
struct product_grid {
  std::ptrdiff_t m, n, rows, columns;

  product_grid(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t panel)
      : m(m), n(n), rows(block_of(m)), columns(n) {
    // Columns only where the rows do not do: every part packs its rows for itself.
    const std::ptrdiff_t wanted = ceil_div(8, std::max<std::ptrdiff_t>(1, ceil_div(m, rows)));
    if (wanted > 1) columns = even_chunk(n, std::max(2 * panel, n / wanted), panel);
  }
  std::ptrdiff_t across() const { return ceil_div(n, columns); }
  std::ptrdiff_t count() const { return n == 0 ? 0 : ceil_div(m, rows) * across(); }

  // f(first row, rows, first column, columns) of a part
  template <class F>
  void visit(std::ptrdiff_t part, const F& f) const {
    const std::ptrdiff_t i = part / across() * rows, j = part % across() * columns;
    f(i, std::min(rows, m - i), j, std::min(columns, n - j));
  }
};

template <class T>
inline double product_cost(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  return double(m) * double(n) * double(k) * double(sizeof(T)) / 200;
}

}  // namespace

template <class T>
void linear_forward(linear_layer<T>& l, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows,
                    const activation_spec* activation) {
  if (rows == 0 || l.out == 0) return;
  const flush_subnormals flushed;  // as in a network
  const auto activate = activation ? forward_of<T>(activation->kind) : nullptr;
  const product_grid grid(rows, l.out, panel_columns<T>);
  const double cost = product_cost<T>(rows, l.out, l.in);
  // Where each column belongs to one part alone, the part packs what it needs.
  const bool alone = grid.count() == grid.across();
  if (!alone)
    parallel_for(l.parts(), double(l.in) * double(l.out) * 0.15,
                 [&](std::ptrdiff_t i) { l.pack(i, false); });
  parallel_for(grid.count(), cost, [&](std::ptrdiff_t part) {
    grid.visit(part, [&](auto i, auto n, auto j, auto columns) {
      if (alone) l.pack_outputs(j, j + columns, l.forward_panels() + j * l.in);
      l.forward_columns(x.from(i), y.from(i), n, j, columns, l.forward_panels() + j * l.in);
      for (std::ptrdiff_t r = 0; activate && r < n; ++r) {
        T* run = y.row(i + r) + j;
        activate(activation->options, run, columns, 0, run);
      }
    });
  });
}

template <class T>
void linear_backward(linear_layer<T>& l, rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                     std::ptrdiff_t rows) {
  const flush_subnormals flushed;
  const product_grid grid(rows, l.in, panel_columns<T>);
  if (l.backward_panels() && rows > 0)
    parallel_for(l.parts(), double(l.in) * double(l.out) * 0.15,
                 [&](std::ptrdiff_t i) { l.pack_inputs(i); });
  const std::ptrdiff_t of_x = rows == 0 ? 0 : grid.count();
  parallel_for(of_x + l.parts(), 2 * product_cost<T>(rows, l.out, l.in), [&](std::ptrdiff_t part) {
    if (part >= of_x) {
      const std::ptrdiff_t own = part - of_x;
      return l.gradient(own, dy, x, rows, l.weight.gradient + l.weights_of(own).begin,
                        l.bias.gradient + l.outputs_of(own).begin, false);
    }
    grid.visit(part, [&](auto i, auto n, auto j, auto columns) {
      l.backward_columns(dy.from(i), dx.from(i), n, j, columns);
    });
  });
}

#define DLCORE_INSTANTIATE(T)                                                                     \
  template void linear_forward(linear_layer<T>&, rows_of<const T>, rows_of<T>, std::ptrdiff_t,    \
                               const activation_spec*);                                           \
  template void linear_backward(linear_layer<T>&, rows_of<const T>, rows_of<const T>, rows_of<T>, \
                                std::ptrdiff_t);
DLCORE_INSTANTIATE(float)
DLCORE_INSTANTIATE(double)
#undef DLCORE_INSTANTIATE

}  // namespace dlcore
