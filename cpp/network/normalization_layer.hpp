// What the normalizations share: a scale and a shift, one a feature.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "network/layer.hpp"
#include "simd/sums.hpp"

namespace dlcore {

template <class T>
class normalization_layer : public layer<T> {
 public:
  // Does the way forward of a ReLU that takes its outputs.
  void rectify_outputs() { least_ = T(0); }

 protected:
  static constexpr std::ptrdiff_t w = vec<T>::size;

  double eps_;
  T least_ = -std::numeric_limits<T>::infinity();  // of the outputs; NaN stays

  normalization_layer(std::ptrdiff_t width, const tensor<T>& weight, const tensor<T>& bias,
                      double eps)
      : layer<T>(width, width), eps_(eps) {
    this->weight = {weight.value, weight.gradient, weight.value ? width : 0};
    this->bias = {bias.value, bias.gradient, bias.value ? width : 0};
    this->cost = 0.5 * double(sizeof(T) / sizeof(float)) * double(width);
    this->part_outputs_ = 64;
    if (!weight.value) ones_.assign(width, T(1));
    if (!bias.value) zeros_.assign(width, T(0));
  }

  // Bounds on what comes of a mean over `count` numbers: as long as their squares do not overflow
  // and eps is not tiny, factor_for is not asked, normalized numbers are at most the root of
  // `count`, and what they are multiplied by is at most 1 / sqrt(eps).
  void bound(double count) {
    if (!(eps_ >= double(least_squares))) return;
    const bool has_weight = this->weight.value;
    const double most = std::sqrt(count);
    this->largest_input = std::sqrt(double(most_squares) / std::max(count, 1.0)) / 4;
    this->forward_growth = {0, most + 1, has_weight};
    this->backward_growth = {(2 + most) / std::sqrt(eps_), 0, has_weight};
    this->gradient_growth = {0, most};
  }

  // x less its rounded mean, divided; `shift` is for what the mean lost by rounding: of values far
  // from 0 that is not little beside their spread.
  static vec<T> normal(vec<T> x, vec<T> mean, vec<T> scale, vec<T> shift) {
    return fma<T>(x - mean, scale, shift);
  }
  // Whether squares that add up to this size have lost nothing: neither overflowed nor, beside what
  // they add up to, underflowed. False of NaN.
  static constexpr T least_squares =
      std::numeric_limits<T>::min() * T(std::uint64_t(1) << (std::numeric_limits<T>::digits + 8));
  static constexpr T most_squares = std::numeric_limits<T>::max();
  static bool keeps_squares(double size) {
    return size >= double(least_squares) && size <= double(most_squares);
  }
  // The power of two that brings numbers up to this size, and `eps`, near 1 before they are
  // squared; a normal number, since subnormal ones may be taken for 0. It is 1 for 0 and what is
  // not finite.
  T factor_for(double size) const {
    if (!(size > 0 && size < HUGE_VAL)) return T(1);
    int exponent;
    std::frexp(std::max(size, std::sqrt(eps_)), &exponent);
    constexpr int most = std::numeric_limits<T>::max_exponent - 2;
    return T(std::ldexp(1.0, std::clamp(-exponent, -most, most)));
  }
  // f(read): read brings elements of x to the scale of their statistics. Where no factor is other
  // than 1, and that is nearly everywhere, it leaves them as they are and costs nothing.
  template <class F>
  static void with_factor(vec<T> factor, const F& f) {
    if (any(factor != vec<T>(T(1)))) f([=](vec<T> x) { return x * factor; });
    else f([](vec<T> x) { return x; });
  }
  // The scale and the shift of each feature: 1 and 0 where there is no parameter.
  const T* scales() const { return this->weight.value ? this->weight.value : ones_.data(); }
  const T* shifts() const { return this->bias.value ? this->bias.value : zeros_.data(); }
  // Writes sums to a gradient, or adds them to it, unless there is none.
  static void give(T* to, vec<T> sum, std::ptrdiff_t lanes, bool add) {
    if (to) store_up_to<T>(to, add ? sum + load_up_to<T>(to, lanes) : sum, lanes);
  }
  // f(feature, lanes) of each register, whose lanes are a constant but for the last one.
  using whole = std::integral_constant<std::ptrdiff_t, w>;
  template <class F>
  static void each_register(std::ptrdiff_t begin, std::ptrdiff_t end, const F& f) {
    std::ptrdiff_t j = begin;
    for (; j + w <= end; j += w) f(j, whole());
    if (j < end) f(j, end - j);
  }
  // f(feature, lanes, K) of K registers side by side, a constant: of `Together`, then of one.
  template <int Together, class F>
  static void each_group(std::ptrdiff_t begin, std::ptrdiff_t end, const F& f) {
    std::ptrdiff_t j = begin;
    for (; j + Together * w <= end; j += Together * w)
      f(j, whole(), std::integral_constant<int, Together>());
    each_register(j, end,
                  [&](auto at, auto lanes) { f(at, lanes, std::integral_constant<int, 1>()); });
  }
  vec<T> least() const { return least_; }

 private:
  std::vector<T> ones_, zeros_;
};

// The rows of y of a layer by itself, as in training.
template <class T>
void normalize(layer<T>& l, rows_of<const T> x, rows_of<T> y, std::ptrdiff_t rows);
// dx, and the gradients of its parameters.
template <class T>
void normalize_backward(layer<T>& l, rows_of<const T> dy, rows_of<const T> x, rows_of<T> dx,
                        std::ptrdiff_t rows);

}  // namespace dlcore
