// The weights of a linear layer and their optimizer state, by panels, while steps follow each
// other.
//
// The way forward reads the weights by panels of outputs. Gradient, update and state in that order
// as well leave nothing to transpose after a step but what the way back reads, and each part of it
// is one run of memory. The arrays that the caller knows are out of date meanwhile.
#pragma once

#include <memory>
#include <vector>

#include "network/updates.hpp"

namespace dlcore {

template <class T>
class linear_panels {
 public:
  // `weight` and `bias`: what is trained of the layer, or null. `back`: slopes of the inputs are
  // wanted.
  linear_panels(linear_layer<T>& of, const trained<T>& weight, const trained<T>* bias, int states,
                bool back)
      : of_(of),
        weight_(weight),
        has_bias_(bias),
        back_(back),
        states_(states),
        // Where it takes several threads enough parts for them, of tiles that are whole, as many as
        // are packed at once.
        columns_(even_chunk(of.out, 256, panel)),
        chunk_(even_chunk(of.in,
                          of.in * of.out <= 8192
                              ? of.in
                              : std::clamp<std::ptrdiff_t>(of.in * ceil_div(of.out, columns_) / 8,
                                                           2 * tile_rows, 7 * tile_rows),
                          back ? panel : tile_rows)),
        values_{of.transposed(), nullptr, ceil_div(of.out, panel) * panel * of.in},
        packed_{&values_, {}, weight.group, nullptr} {
    if (bias) bias_ = *bias;
  }

  // Whether a layer gains by it: the rest of a narrow panel is work for nothing.
  // A limit on the norm of whole rows needs more than a part has.
  static bool suits(const linear_layer<T>& l) {
    return l.out > panel / 2 && l.in > 0 && l.max_norm == 0;
  }

  // Parts are some inputs of some panels.
  std::ptrdiff_t parts() const { return ceil_div(of_.out, columns_) * chunks(); }

  // Makes room; then all parts can be taken.
  void reserve() {
    if (back_) of_.keep_straight();
    if (!memory_.empty()) return;
    const auto keep = [&](T* own, T*& packed) {
      memory_.emplace_back(new vec<T>[values_.size / vec<T>::size]);
      packed = reinterpret_cast<T*>(memory_.back().get());
      kept_.emplace_back(own, packed);
    };
    for (std::size_t s = 0; s < states_; ++s) keep(weight_.state[s], packed_.state[s]);
    if (weight_.average) keep(weight_.average, packed_.average);
  }
  // Takes over the parameters and their state, and gives them back.
  void take(std::ptrdiff_t part) {
    const place at(*this, part);
    const auto pack = [&](const T* from, T* to) {
      at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
        pack_transposed<T>(
            [&](std::ptrdiff_t r) { return from + (column + r) * of_.in + at.begin; }, columns,
            panel, at.rows, to + first);
      });
    };
    pack(weight_.of->value, values_.value);
    for (const auto& [own, packed] : kept_) pack(own, packed);
    turn_back(at);
  }
  void give(std::ptrdiff_t part) const {
    const place at(*this, part);
    const auto unpack = [&](const T* from, T* to) {
      at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
        transpose_rows<T>([&](std::ptrdiff_t i) { return from + first + i * panel; }, at.rows,
                          at.rows, columns, to + column * of_.in + at.begin, of_.in, false);
      });
    };
    unpack(values_.value, weight_.of->value);
    for (const auto& [own, packed] : kept_) unpack(packed, own);
  }

  // Sums the gradient of a part over the batch and updates it.
  void update(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x, std::ptrdiff_t rows,
              const update_rule& rule) {
    struct tag;
    const place at(*this, part);
    const std::ptrdiff_t run = at.rows * panel, all = ceil_div(at.columns, panel) * run;
    T* gradient = thread_buffer<T, tag>(all);
    if (has_bias_ && at.begin == 0) {
      linear_layer<T>::sum_columns(dy, at.column, at.columns, rows, gradient);
      rule.apply(bias_, gradient, at.column, at.column + at.columns);
      rule.average(bias_, at.column, at.column + at.columns);
    }
    if (at.columns % panel != 0) std::fill(gradient + all - run, gradient + all, T(0));
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
        gradient, panel, nullptr, {}, run);
    at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
      rule.apply(packed_, gradient, first, first + run);
      rule.average(packed_, first, first + run);
      gradient += run;
    });
    turn_back(at);
  }

  const trained<T>& weight() const { return weight_; }
  // The sum of the squares of a part's weights.
  double squares(std::ptrdiff_t part) const {
    const place at(*this, part);
    double sum = 0;
    at.each_panel([&](std::ptrdiff_t, std::ptrdiff_t, std::ptrdiff_t first) {
      sum += squares_of(values_.value + first, at.rows * panel);
    });
    return sum;
  }

 private:
  static constexpr std::ptrdiff_t panel = linear_layer<T>::panel;

  linear_layer<T>& of_;
  trained<T> weight_, bias_{};
  bool has_bias_, back_;
  std::size_t states_;
  std::ptrdiff_t columns_, chunk_;  // outputs and inputs of a part
  tensor<T> values_;
  trained<T> packed_;
  std::vector<std::unique_ptr<vec<T>[]>> memory_;
  std::vector<std::pair<T*, T*>> kept_;  // the caller's arrays, and theirs by panels

  std::ptrdiff_t chunks() const { return ceil_div(of_.in, chunk_); }

  // Inputs [begin, begin + rows) of outputs [column, column + columns).
  struct place {
    std::ptrdiff_t in, column, columns, begin, rows;

    place(const linear_panels& l, std::ptrdiff_t part)
        : in(l.of_.in),
          column(part / l.chunks() * l.columns_),
          columns(std::min(l.columns_, l.of_.out - column)),
          begin(part % l.chunks() * l.chunk_),
          rows(std::min(l.chunk_, in - begin)) {}
    // f(first output, outputs, where it begins in the panels) of each panel
    template <class F>
    void each_panel(const F& f) const {
      for (std::ptrdiff_t j = 0; j < columns; j += panel)
        f(column + j, std::min(panel, columns - j), (column + j) * in + begin * panel);
    }
  };

  // Packs the new weights of a part for the way back.
  void turn_back(const place& at) const {
    if (!back_) return;
    at.each_panel([&](std::ptrdiff_t column, std::ptrdiff_t columns, std::ptrdiff_t first) {
      for (std::ptrdiff_t i = 0; i < at.rows; i += panel)
        pack_transposed<T>(
            [&](std::ptrdiff_t r) { return values_.value + first + (i + r) * panel; },
            std::min(panel, at.rows - i), panel, columns,
            of_.straight() + (at.begin + i) * of_.out + column * panel);
    });
  }
};

}  // namespace dlcore
