#include "network/number_layers.hpp"

#include <algorithm>
#include <cmath>

#include "core/workspace.hpp"
#include "kernels/elementwise.hpp"
#include "simd/turns.hpp"

namespace dlcore {

namespace {

// Rows whose products are added up by themselves, so that the error does not grow with the batch.
constexpr std::ptrdiff_t summed_rows = 256;

template <class T>
std::ptrdiff_t whole_registers(std::ptrdiff_t n) {
  return ceil_div(n, vec<T>::size) * vec<T>::size;
}

// Some rows of y = start + x W, W with rows of whole registers, of which `Registers` from column j
// on: each element one chain of multiply-adds. Up to `room` columns of y may be written: the first
// ones with the result, others of their registers with what is written over later.
template <int Rows, int Registers, class T>
__attribute__((always_inline)) inline void multiply_some(rows_of<const T> x, std::ptrdiff_t terms,
                                                         const T* w, std::ptrdiff_t step,
                                                         const T* start, rows_of<T> y,
                                                         std::ptrdiff_t j, std::ptrdiff_t columns,
                                                         std::ptrdiff_t room) {
  constexpr std::ptrdiff_t size = vec<T>::size;
  vec<T> sums[Rows][Registers];
#pragma GCC unroll 4
  for (int i = 0; i < Registers; ++i) {
    const vec<T> first =
        start ? load_up_to(start + j + i * size, columns - i * size) : vec<T>(T(0));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sums[r][i] = first;
  }
  for (std::ptrdiff_t t = 0; t < terms; ++t) {
    vec<T> weights[Registers];
#pragma GCC unroll 4
    for (int i = 0; i < Registers; ++i) weights[i] = load<T>(w + t * step + j + i * size);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const vec<T> own = x.row(r)[t];
#pragma GCC unroll 4
      for (int i = 0; i < Registers; ++i) sums[r][i] = fma<T>(own, weights[i], sums[r][i]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < Registers; ++i)
      store_up_to(y.row(r) + j + i * size, sums[r][i], room - i * size);
}

template <class T>
void multiply(rows_of<const T> x, std::ptrdiff_t terms, const T* w, std::ptrdiff_t step,
              const T* start, rows_of<T> y, std::ptrdiff_t columns, std::ptrdiff_t room,
              std::ptrdiff_t n) {
  constexpr std::ptrdiff_t size = vec<T>::size;
  for (std::ptrdiff_t j = 0; j < columns;) {
    const std::ptrdiff_t left = columns - j;
    const bool is_wide = left > size;
    std::ptrdiff_t r = 0;
    if (is_wide) {
      for (; r + 4 <= n; r += 4)
        multiply_some<4, 2>(x.from(r), terms, w, step, start, y.from(r), j, left, room - j);
      for (; r < n; ++r)
        multiply_some<1, 2>(x.from(r), terms, w, step, start, y.from(r), j, left, room - j);
    } else {
      for (; r + 8 <= n; r += 8)
        multiply_some<8, 1>(x.from(r), terms, w, step, start, y.from(r), j, left, room - j);
      for (; r < n; ++r)
        multiply_some<1, 1>(x.from(r), terms, w, step, start, y.from(r), j, left, room - j);
    }
    j += is_wide ? 2 * size : size;
  }
}

// Some rows of to = a^T b, or of `to` plus it.
template <int Rows, class T>
void multiply_transposed_some(rows_of<const T> a, rows_of<const T> b, std::ptrdiff_t columns,
                              std::ptrdiff_t n, T* to, bool add) {
  for (std::ptrdiff_t j = 0; j < columns; j += vec<T>::size) {
    const std::ptrdiff_t left = columns - j;
    for (std::ptrdiff_t begin = 0; begin < n || begin == 0; begin += summed_rows) {
      vec<T> sums[Rows];
      for (vec<T>& sum : sums) sum = T(0);
      for (std::ptrdiff_t r = begin; r < std::min(n, begin + summed_rows); ++r) {
        const vec<T> own = load_up_to(b.row(r) + j, left);
        const T* const factors = a.row(r);
#pragma GCC unroll 8
        for (int k = 0; k < Rows; ++k) sums[k] = fma<T>(factors[k], own, sums[k]);
      }
#pragma GCC unroll 8
      for (int k = 0; k < Rows; ++k) {
        T* const at = to + k * columns + j;
        store_up_to(at, add || begin > 0 ? load_up_to<T>(at, left) + sums[k] : sums[k], left);
      }
    }
  }
}

// to = a^T b, or `to` plus it, of so many rows and columns: sums over the rows of both.
template <class T>
void multiply_transposed(rows_of<const T> a, std::ptrdiff_t rows, rows_of<const T> b,
                         std::ptrdiff_t columns, std::ptrdiff_t n, T* to, bool add) {
  std::ptrdiff_t i = 0;
  const auto some = [&](auto count) {
    for (; i + count <= rows; i += count)
      multiply_transposed_some<count>(rows_of<const T>{a.first + i, a.step}, b, columns, n,
                                      to + i * columns, add);
  };
  some(std::integral_constant<int, 8>());
  some(std::integral_constant<int, 4>());
  some(std::integral_constant<int, 1>());
}

// The sums of columns of rows, or `to` plus them.
template <class T>
void sum_rows(rows_of<const T> a, std::ptrdiff_t columns, std::ptrdiff_t n, T* to, bool add) {
  constexpr std::ptrdiff_t size = vec<T>::size;
  for (std::ptrdiff_t j = 0; j < columns; j += size) {
    const std::ptrdiff_t left = columns - j;
    vec<T> all = add ? load_up_to<T>(to + j, left) : vec<T>(T(0));
    for (std::ptrdiff_t begin = 0; begin < n; begin += summed_rows) {
      const std::ptrdiff_t end = std::min(n, begin + summed_rows);
      vec<T> sums[2] = {T(0), T(0)};
      for (std::ptrdiff_t r = begin; r < end; ++r) sums[r & 1] += load_up_to(a.row(r) + j, left);
      all += sums[0] + sums[1];
    }
    store_up_to(to + j, all, left);
  }
}

template <class T>
rows_of<T> columns_from(rows_of<T> rows, std::ptrdiff_t begin) {
  return {rows.first + begin, rows.step};
}

}  // namespace

// ---- a linear layer of each feature -------------------------------------------------------------

template <class T>
feature_linear_layer<T>::feature_linear_layer(const feature_linear_spec<T>& spec)
    : layer<T>(spec.features * spec.own_in, spec.features * spec.own_out),
      features_(spec.features),
      own_in_(spec.own_in),
      own_out_(spec.own_out),
      is_shared_(spec.is_shared),
      count_(is_shared_ ? own_out_ : features_),
      part_count_(std::max<std::ptrdiff_t>(is_shared_ ? 8 : 1, ceil_div(count_, 16))),
      forward_step_(whole_registers<T>(own_out_)),
      backward_step_(whole_registers<T>(own_in_)),
      forward_weights_((is_shared_ ? 1 : features_) * own_in_ * forward_step_),
      backward_weights_((is_shared_ ? 1 : features_) * own_out_ * backward_step_) {
  this->weight = spec.weight, this->bias = spec.bias;
  this->cost =
      double(features_) * double(own_in_) * double(forward_step_) * double(sizeof(T)) / 100;
  const double times = is_shared_ ? double(features_) : 1;  // that a parameter is in a row
  this->forward_growth = {double(own_in_), 1, true};
  this->backward_growth = {double(own_out_), 0, true};
  this->gradient_growth = {times, times};
  this->dx_over_dy = false;
}

template <class T>
auto feature_linear_layer<T>::outputs_of(std::ptrdiff_t part) const -> typename layer<T>::range {
  const std::ptrdiff_t size = is_shared_ ? 1 : own_out_;
  return {part * part_count_ * size, std::min(count_, (part + 1) * part_count_) * size};
}

template <class T>
auto feature_linear_layer<T>::weights_of(std::ptrdiff_t part) const -> typename layer<T>::range {
  const std::ptrdiff_t size = is_shared_ ? own_in_ : own_in_ * own_out_;
  return {part * part_count_ * size, std::min(count_, (part + 1) * part_count_) * size};
}

// Of features [begin, end): weights from inputs to outputs, rows filled up to whole registers.
template <class T>
void feature_linear_layer<T>::pack_forward(std::ptrdiff_t begin, std::ptrdiff_t end, T* to) const {
  for (std::ptrdiff_t f = begin; f < end; ++f) {
    const T* const from = this->weight.value + f * own_in_ * own_out_;
    for (std::ptrdiff_t i = 0; i < own_in_; ++i, to += forward_step_) {
      for (std::ptrdiff_t o = 0; o < own_out_; ++o)
        to[o] = is_shared_ ? from[o * own_in_ + i] : from[i * own_out_ + o];
      std::fill(to + own_out_, to + forward_step_, T(0));
    }
  }
}

template <class T>
void feature_linear_layer<T>::pack(std::ptrdiff_t part, bool for_backward) {
  // Where all features have the same weights, the first part takes all of them.
  if (is_shared_ && part > 0) return;
  const std::ptrdiff_t begin = is_shared_ ? 0 : part * part_count_;
  const std::ptrdiff_t end = is_shared_ ? 1 : std::min(features_, (part + 1) * part_count_);
  pack_forward(begin, end, forward_weights_.data() + begin * own_in_ * forward_step_);
  for (std::ptrdiff_t f = begin; for_backward && f < end; ++f) {
    const T* const from = this->weight.value + f * own_in_ * own_out_;
    T* to = backward_weights_.data() + f * own_out_ * backward_step_;
    for (std::ptrdiff_t o = 0; o < own_out_; ++o, to += backward_step_) {
      for (std::ptrdiff_t i = 0; i < own_in_; ++i)
        to[i] = is_shared_ ? from[o * own_in_ + i] : from[i * own_out_ + o];
      std::fill(to + own_in_, to + backward_step_, T(0));
    }
  }
}

template <class T>
void feature_linear_layer<T>::forward_with(const T* weights, rows_of<const T> x, rows_of<T> y,
                                           std::ptrdiff_t n) const {
  for (std::ptrdiff_t f = 0; f < features_; ++f) {
    const std::ptrdiff_t m = matrix_of(f);
    const T* const start = this->bias.value ? this->bias.value + m * own_out_ : nullptr;
    multiply(columns_from(x, f * own_in_), own_in_, weights + m * own_in_ * forward_step_,
             forward_step_, start, columns_from(y, f * own_out_), own_out_, out - f * own_out_, n);
  }
}

template <class T>
void feature_linear_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  forward_with(forward_weights_.data(), x, y, p.n);
}

template <class T>
void feature_linear_layer<T>::forward_few(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  struct tag;
  const std::ptrdiff_t matrices = is_shared_ ? 1 : features_;
  T* const packed = thread_buffer<T, tag>(matrices * own_in_ * forward_step_);
  pack_forward(0, matrices, packed);
  forward_with(packed, x, y, p.n);
}

template <class T>
void feature_linear_layer<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                                       const pass& p) const {
  for (std::ptrdiff_t f = 0; f < features_; ++f)
    multiply<T>(columns_from(dy, f * own_out_), own_out_,
                backward_weights_.data() + matrix_of(f) * own_out_ * backward_step_, backward_step_,
                nullptr, columns_from(dx, f * own_in_), own_in_, in - f * own_in_, p.n);
}

template <class T>
void feature_linear_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                       std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const std::ptrdiff_t begin = part * part_count_, end = std::min(count_, begin + part_count_);
  for (std::ptrdiff_t f = is_shared_ ? 0 : begin; f < (is_shared_ ? features_ : end); ++f) {
    const rows_of<const T> inputs = columns_from(x, f * own_in_);
    if (is_shared_) {
      // Some outputs, of all features.
      const rows_of<const T> outputs = columns_from(dy, f * own_out_ + begin);
      if (dw) multiply_transposed(outputs, end - begin, inputs, own_in_, rows, dw, add || f > 0);
      if (db) sum_rows(outputs, end - begin, rows, db, add || f > 0);
    } else {
      const rows_of<const T> outputs = columns_from(dy, f * own_out_);
      const std::ptrdiff_t at = f - begin;
      if (dw)
        multiply_transposed(inputs, own_in_, outputs, own_out_, rows, dw + at * own_in_ * own_out_,
                            add);
      if (db) sum_rows(outputs, own_out_, rows, db + at * own_out_, add);
    }
  }
}

// ---- periodic activations -----------------------------------------------------------------------

namespace {

constexpr double turns_of_radian = 0.15915494309189535,
                 turns_of_radian_low = -9.839338337591243e-18;
template <class T>
constexpr T two_pi = T(6.283185307179586477);

// Angles in radians as quarter turns, in two numbers each.
template <class T>
struct phases {
  vec<T> quarters, low;

  phases(const T* radians, std::ptrdiff_t n) {
    T high[vec<T>::size] = {}, rest[vec<T>::size] = {};
    for (std::ptrdiff_t i = 0; i < std::min(n, vec<T>::size); ++i) {
      const double own = double(radians[i]), turns = own * turns_of_radian;
      const double lost = std::fma(own, turns_of_radian, -turns) + own * turns_of_radian_low;
      const double part = 4 * (turns - std::round(turns));
      high[i] = T(part);
      rest[i] = T(part - double(high[i]) + 4 * lost);
    }
    quarters = load<T>(high), low = load<T>(rest);
  }
};

}  // namespace

template <class T>
periodic_layer<T>::periodic_layer(const periodic_spec<T>& spec)
    : layer<T>(spec.features, spec.features * spec.frequencies * (spec.bias.value ? 1 : 2)),
      k_(spec.frequencies),
      own_out_(spec.bias.value ? k_ : 2 * k_),
      part_features_(ceil_div(spec.features, 16)) {
  this->weight = spec.weight, this->bias = spec.bias;
  this->cost = nanoseconds<T>(1.5, in * whole_registers<T>(k_));
  this->forward_growth = {0, 1};
  this->backward_growth = {2 * two_pi<double> * double(k_), 0, true};
  this->gradient_growth = {2 * two_pi<double>, 1};
  this->dx_over_dy = false;
  // Products of such numbers and parameters as large are still finite.
  this->largest_input = std::sqrt(double(std::numeric_limits<T>::max()));
}

template <class T>
template <class F>
void periodic_layer<T>::each_register(std::ptrdiff_t begin, std::ptrdiff_t end, const F& f) const {
  const T* const bias = this->bias.value;
  for (std::ptrdiff_t feature = begin; feature < end; ++feature)
    for (std::ptrdiff_t j = 0; j < k_; j += vec<T>::size) {
      const std::ptrdiff_t n = std::min(vec<T>::size, k_ - j), at = feature * k_ + j;
      const phases<T> shift(bias ? bias + at : nullptr, bias ? n : 0);
      f(feature, j, n, load_up_to<T>(this->weight.value + at, n), shift);
    }
}

template <class T>
void periodic_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const bool has_bias = this->bias.value;
  each_register(
      0, in,
      [&](std::ptrdiff_t f, std::ptrdiff_t j, std::ptrdiff_t n, vec<T> w, const phases<T>& shift) {
        for (std::ptrdiff_t r = 0; r < p.n; ++r) {
          const auto angle = quarter_turns<T>::of_product(x.row(r)[f], w);
          T* const to = y.row(r) + f * own_out_ + j;
          const sine_cosine<T> both(has_bias ? angle.plus(shift.quarters, shift.low) : angle);
          store_up_to(to, both.cosine, n);
          if (!has_bias) store_up_to(to + k_, both.sine, n);
        }
      });
}

template <class T>
void periodic_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                 const pass& p) const {
  const bool has_bias = this->bias.value;
  for (std::ptrdiff_t r = 0; r < p.n; ++r) std::fill_n(dx.row(r), in, T(0));
  each_register(
      0, in,
      [&](std::ptrdiff_t f, std::ptrdiff_t j, std::ptrdiff_t n, vec<T> w, const phases<T>& shift) {
        for (std::ptrdiff_t r = 0; r < p.n; ++r) {
          const auto angle = quarter_turns<T>::of_product(x.row(r)[f], w);
          const T* const from = dy.row(r) + f * own_out_ + j;
          const sine_cosine<T> both(has_bias ? angle.plus(shift.quarters, shift.low) : angle);
          vec<T> slope = -(both.sine * load_up_to(from, n));
          if (!has_bias) slope = fma<T>(both.cosine, load_up_to(from + k_, n), slope);
          dx.row(r)[f] += two_pi<T> * reduce_add(w * slope);
        }
      });
}

template <class T>
void periodic_layer<T>::gradient(std::ptrdiff_t part, rows_of<const T> dy, rows_of<const T> x,
                                 std::ptrdiff_t rows, T* dw, T* db, bool add) const {
  const bool has_bias = this->bias.value;
  const std::ptrdiff_t begin = part * part_features_, end = std::min(in, begin + part_features_);
  each_register(
      begin, end,
      [&](std::ptrdiff_t f, std::ptrdiff_t j, std::ptrdiff_t n, vec<T> w, const phases<T>& shift) {
        const std::ptrdiff_t at = (f - begin) * k_ + j;
        vec<T> of_weight = add && dw ? load_up_to<T>(dw + at, n) : vec<T>(T(0));
        vec<T> of_bias = add && db ? load_up_to<T>(db + at, n) : vec<T>(T(0));
        for (std::ptrdiff_t first = 0; first < rows; first += summed_rows) {
          vec<T> products = T(0), sums = T(0);
          for (std::ptrdiff_t r = first; r < std::min(rows, first + summed_rows); ++r) {
            const vec<T> own = x.row(r)[f];
            const auto angle = quarter_turns<T>::of_product(own, w);
            const T* const from = dy.row(r) + f * own_out_ + j;
            const sine_cosine<T> both(has_bias ? angle.plus(shift.quarters, shift.low) : angle);
            vec<T> slope = -(both.sine * load_up_to(from, n));
            if (!has_bias) slope = fma<T>(both.cosine, load_up_to(from + k_, n), slope);
            products = fma<T>(own, slope, products);
            sums += slope;
          }
          of_weight = fma<T>(two_pi<T>, products, of_weight);
          of_bias += sums;
        }
        if (dw) store_up_to(dw + at, of_weight, n);
        if (db) store_up_to(db + at, of_bias, n);
      });
}

// ---- bins ---------------------------------------------------------------------------------------

template <class T>
piecewise_linear_layer<T>::piecewise_linear_layer(const piecewise_linear_spec<T>& spec)
    : layer<T>(spec.features, spec.features * spec.bins), bins_(spec) {
  this->cost = nanoseconds<T>(0.3, out);
  double most = 0, shift = 1, back = 0;
  for (std::ptrdiff_t f = 0; f < in; ++f) {
    double sum = 0;
    for (std::ptrdiff_t i = f * spec.bins; i < (f + 1) * spec.bins; ++i) {
      const double scale = std::abs(double(spec.scale[i]));
      most = std::max(most, scale), sum += scale;
      shift = std::max(shift, 1 + std::abs(double(spec.lower[i])) * scale);
    }
    back = std::max(back, sum);
  }
  this->forward_growth = {most, shift};
  this->backward_growth = {back, 0};
  this->dx_over_dy = false;
}

template <class T>
void piecewise_linear_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    for (std::ptrdiff_t f = 0; f < in; ++f) {
      const vec<T> own = x.row(r)[f];
      const std::ptrdiff_t at = f * bins_.bins;
      map_run<T>(
          [=](vec<T> lower, vec<T> scale, vec<T> low, vec<T> high) {
            return min<T>(max<T>((own - lower) * scale, low), high);  // NaN stays
          },
          y.row(r) + at, bins_.bins, 0, bins_.lower + at, bins_.scale + at, bins_.low + at,
          bins_.high + at);
    }
}

template <class T>
void piecewise_linear_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                         const pass& p) const {
  constexpr std::ptrdiff_t size = vec<T>::size;
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    for (std::ptrdiff_t f = 0; f < in; ++f) {
      const vec<T> own = x.row(r)[f];
      vec<T> sum = T(0);
      for (std::ptrdiff_t j = 0; j < bins_.bins; j += size) {
        const std::ptrdiff_t n = std::min(size, bins_.bins - j), at = f * bins_.bins + j;
        const vec<T> scale = load_up_to(bins_.scale + at, n);
        const vec<T> share = (own - load_up_to(bins_.lower + at, n)) * scale;
        // An edge belongs to the bin above it alone.
        const auto is_within =
            (load_up_to(bins_.low + at, n) <= share) & (share < load_up_to(bins_.high + at, n));
        const vec<T> slope = select<T>(is_within, scale, T(0));
        sum = fma<T>(slope, load_up_to(dy.row(r) + at, n), sum);
      }
      dx.row(r)[f] = reduce_add(sum);
    }
}

// ---- what is missing ----------------------------------------------------------------------------

template <class T>
missing_layer<T>::missing_layer(const missing_spec& spec)
    : layer<T>(spec.features, spec.features), indicates_(spec.indicates) {
  this->cost = nanoseconds<T>(0.1, this->in);
  this->forward_growth = {1, 1};
  this->backward_growth = {1, 0};
}

template <class T>
void missing_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  const vec<T> missing = T(indicates_ ? 1 : 0), zero = T(0);
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    map_run<T>([=](vec<T> own) { return select<T>(own == own, indicates_ ? zero : own, missing); },
               y.row(r), this->in, 0, x.row(r));
}

template <class T>
void missing_layer<T>::backward(rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                                const pass& p) const {
  const vec<T> zero = T(0);
  for (std::ptrdiff_t r = 0; r < p.n; ++r)
    map_run<T>([=](vec<T> slope,
                   vec<T> own) { return indicates_ ? zero : select<T>(own == own, slope, zero); },
               dx.row(r), this->in, 0, dy.row(r), x.row(r));
}

template class feature_linear_layer<float>;
template class feature_linear_layer<double>;
template class periodic_layer<float>;
template class periodic_layer<double>;
template class piecewise_linear_layer<float>;
template class piecewise_linear_layer<double>;
template class missing_layer<float>;
template class missing_layer<double>;

}  // namespace dlcore
