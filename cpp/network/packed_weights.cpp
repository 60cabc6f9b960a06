#include "network/packed_weights.hpp"

#include <algorithm>

#include "kernels/gemv.hpp"

namespace dlcore {

// Inputs [begin, begin + rows) of outputs [column, column + columns).
template <class T>
struct packed_weights<T>::place {
  std::ptrdiff_t in, column, columns, begin, rows;

  place(const packed_weights& l, std::ptrdiff_t part)
      : in(l.of_.in),
        column(part / l.chunks() * l.columns_),
        columns(std::min(l.columns_, l.of_.out - column)),
        begin(part % l.chunks() * l.chunk_),
        rows(std::min(l.chunk_, in - begin)) {}
  // Elements of the gradients: of the biases, which belong to the first inputs, and the weights.
  std::ptrdiff_t bias_size() const { return begin == 0 ? ceil_div(columns, panel) * panel : 0; }
  std::ptrdiff_t weight_size() const { return ceil_div(columns, panel) * rows * panel; }
  // f(first output, outputs, where it begins in the panels) of each panel
  template <class F>
  void each_panel(const F& f) const {
    for (std::ptrdiff_t j = 0; j < columns; j += panel)
      f(column + j, std::min(panel, columns - j), (column + j) * in + begin * panel);
  }
};

template <class T>
packed_weights<T>::packed_weights(linear_layer<T>& of, const trained_parameter<T>& weight,
                                  const trained_parameter<T>* bias, bool for_backward)
    : of_(of),
      weight_(weight),
      has_bias_(bias),
      for_backward_(for_backward),
      // Where it takes several threads there are enough parts for them, of tiles that are whole, as
      // many as are packed at once.
      columns_(even_chunk(of.out, 512, panel)),
      chunk_(even_chunk(of.in,
                        of.in * of.out <= 8192 ? of.in
                                               : std::clamp<std::ptrdiff_t>(
                                                     of.in * ceil_div(of.out, columns_) / 8,
                                                     2 * tile_rows, (block_tiles - 1) * tile_rows),
                        for_backward ? panel : tile_rows)),
      values_{of.forward_panels(), nullptr, ceil_div(of.out, panel) * panel * of.in},
      packed_{&values_, {}, weight.group, nullptr} {
  if (bias) bias_ = *bias;
}

template <class T>
void packed_weights<T>::reserve() {
  if (for_backward_) of_.reserve_backward_panels();
  if (is_reserved_) return;
  memory_.clear(), kept_.clear();  // of an attempt for which there was no memory
  const auto keep = [&](T* own, T*& packed) {
    packed = memory_.emplace_back(values_.size).data();
    kept_.emplace_back(own, packed);
  };
  for (std::size_t s = 0; s < weight_.state.size(); ++s)
    if (weight_.state[s]) keep(weight_.state[s], packed_.state[s]);
  if (weight_.average) keep(weight_.average, packed_.average);
  is_reserved_ = true;
}

template <class T>
void packed_weights<T>::pack(std::ptrdiff_t part) {
  const place at(*this, part);
  const auto pack_array = [&](const T* from, T* to) {
    at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
      pack_transposed<T>([&](std::ptrdiff_t r) { return from + (column + r) * of_.in + at.begin; },
                         columns, panel, at.rows, to + first);
    });
  };
  pack_array(weight_.of->value, values_.value);
  for (const auto& [own, packed] : kept_) pack_array(own, packed);
  repack(at);
}

template <class T>
void packed_weights<T>::unpack(std::ptrdiff_t part) const {
  const place at(*this, part);
  const auto unpack_array = [&](const T* from, T* to) {
    at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
      transpose_rows<T>([&](std::ptrdiff_t i) { return from + first + i * panel; }, at.rows,
                        at.rows, columns, to + column * of_.in + at.begin, of_.in, false);
    });
  };
  unpack_array(values_.value, weight_.of->value);
  for (const auto& [own, packed] : kept_) unpack_array(packed, own);
}

template <class T>
void packed_weights<T>::repack(const place& at) const {
  if (!for_backward_) return;
  at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
    for (std::ptrdiff_t i = 0; i < at.rows; i += panel)
      pack_transposed<T>([&](std::ptrdiff_t r) { return values_.value + first + (i + r) * panel; },
                         std::min(panel, at.rows - i), panel, columns,
                         of_.backward_panels() + (at.begin + i) * of_.out + column * panel);
  });
}

template <class T>
std::ptrdiff_t packed_weights<T>::gradient_size(std::ptrdiff_t part) const {
  const place at(*this, part);
  return at.bias_size() + at.weight_size();
}

template <class T>
void packed_weights<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                 std::ptrdiff_t rows, T* to) const {
  const place at(*this, part);
  const std::ptrdiff_t run = at.rows * panel;
  if (has_bias_ && at.begin == 0) linear_layer<T>::sum_columns(dy, at.column, at.columns, rows, to);
  to += at.bias_size();
  if (at.columns % panel != 0) std::fill(to + at.weight_size() - run, to + at.weight_size(), T(0));
  if (rows == 1) return gradient_of_row(at, dy.first, x.first, to);
  product<T>(
      at.rows, at.columns, rows,
      [&](std::ptrdiff_t i, std::ptrdiff_t n, std::ptrdiff_t height, std::ptrdiff_t p,
          std::ptrdiff_t terms, T* tile) {
        return tile_of_columns<T>(x.row(p) + at.begin + i, x.step, n, height, terms,
                                  ceil_div(at.columns, panel), tile);
      },
      [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
        return dlcore::panel<T>{dy.row(p) + at.column + j, dy.step, columns, true};
      },
      to, panel, nullptr, {}, run);
}

template <class T>
void packed_weights<T>::update(std::ptrdiff_t part, T* gradient, const optimizer& by, T factor) {
  const place at(*this, part);
  const std::ptrdiff_t run = at.rows * panel;
  if (has_bias_ && at.begin == 0) {
    by.apply(bias_, gradient, at.column, at.column + at.columns, factor);
    by.average(bias_, at.column, at.column + at.columns);
  }
  gradient += at.bias_size();
  at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
    by.apply(packed_, gradient, first, first + run, factor);
    by.average(packed_, first, first + run);
    gradient += run;
  });
  repack(at);
}

template <class T>
void packed_weights<T>::gradient_of_row(const place& at, const T* dy, const T* x,
                                        T* gradient) const {
  at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t) {
    for (std::ptrdiff_t i = 0; i < at.rows; ++i)
      scale_run<T>(dy + column, x[at.begin + i], columns, gradient + i * panel);
    gradient += at.rows * panel;
  });
}

template <class T>
void packed_weights<T>::add_values(ranks::message& m, std::ptrdiff_t owner,
                                   std::ptrdiff_t part) const {
  const place at(*this, part);
  if (has_bias_ && at.begin == 0) m.add(owner, bias_.of->value + at.column, at.columns);
  at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
    m.add(owner, values_.value + first, at.rows * panel);
  });
}

template <class T>
void packed_weights<T>::add_states(ranks::message& m, std::ptrdiff_t owner,
                                   std::ptrdiff_t part) const {
  const place at(*this, part);
  if (has_bias_ && at.begin == 0)
    bias_.each_state([&](T* state) { m.add(owner, state + at.column, at.columns); });
  packed_.each_state([&](T* state) {
    at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
      m.add(owner, state + first, at.rows * panel);
    });
  });
}

template <class T>
void packed_weights<T>::take_values(std::ptrdiff_t part) const {
  repack(place(*this, part));
}

template <class T>
double packed_weights<T>::squares(std::ptrdiff_t part) const {
  const place at(*this, part);
  double sum = 0;
  at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
    sum += squares_of(values_.value + first, at.rows * panel);
  });
  return sum;
}

template class packed_weights<float>;
template class packed_weights<double>;

}  // namespace dlcore
