// Sine and cosine of angles in turns, 2 pi each, on a register.
//
// Whole turns are taken away without an error, however many they are: largest errors in ULP over
// random products of floats and of doubles up to 1e12, 1.33 and 1.29, with multiply-add.
// tests/nn/test_numbers.py holds 2.
//
// Polynomial coefficients: coefficients.py.
#pragma once

#include "simd/math.hpp"

namespace dlcore {

template <class T>
struct turn_traits;

// Of r quarter turns, |r| <= 1/2, with z = r^2: (sin(r) / r - pi / 2) / z and (cos(r) - 1) / z.
template <>
struct turn_traits<float> {
  static constexpr float integers_from = 0x1p23f;  // all numbers from there on are integers
  static constexpr float few_turns = 0x1p10f;      // what products below lack is little of a turn
  static constexpr float half_pi = 1.5707963705062866f, half_pi_low = -4.3711390001862426e-08f;
  static constexpr float sin_poly[] = {-0.6459640195892381f, 0.07968702007390331f,
                                       -0.0046219073217229015f};
  static constexpr float cos_poly[] = {-1.2337005493711741f, 0.25366941006508403f,
                                       -0.020861524451853377f, 0.0009067274584290791f};
};

template <>
struct turn_traits<double> {
  static constexpr double integers_from = 0x1p52, few_turns = 0x1p30;
  static constexpr double half_pi = 1.5707963267948966, half_pi_low = 6.123233995736766e-17;
  static constexpr double sin_poly[] = {
      -0.6459640975062463,   0.07969262624616703,    -0.0046817541353175555, 0.00016044118476019796,
      -3.59884292499818e-06, 5.6919910025547884e-08, -6.635099707176092e-10};
  static constexpr double cos_poly[] = {
      -1.2337005501361697,     0.2536695079010478,    -0.02086348076334071,  0.0009192602745456745,
      -2.5202039018005346e-05, 4.710678013679598e-07, -6.329339383243983e-09};
};

// What is left of turns less the nearest whole number of them: exact. NaN of infinities.
template <class T>
inline vec<T> part_of_turn(vec<T> turns) {
  using I = int_of<T>;
  const vec<T> size = abs<T>(turns), magic = turn_traits<T>::integers_from;
  const vec<T> whole = select<T>(size < magic, (size + magic) - magic, size);
  const vec<I> sign = bit_cast<I>(turns) & vec<I>(sign_bit<T>);
  return bit_cast<T>(bit_cast<I>(size - whole) ^ sign);
}

// An angle: a number of quarter turns, of which the lowest two bits count, and the rest of it,
// about at most half a quarter.
template <class T>
struct quarter_turns {
  vec<int_of<T>> number;
  vec<T> rest;

  // Of turns that are the sum of two numbers, the second one small beside a quarter.
  static quarter_turns of(vec<T> turns, vec<T> low) {
    const vec<T> four = T(4), quarters = four * turns;
    const vec<T> shifted = quarters + vec<T>(float_traits<T>::round_magic);
    const vec<T> rest = quarters - (shifted - vec<T>(float_traits<T>::round_magic));
    return {bit_cast<int_of<T>>(shifted), fma<T>(four, low, rest)};
  }
  // Of a product of two numbers of turns, as if that were exact.
  static quarter_turns of_product(vec<T> a, vec<T> b) {
    vec<T> turns = a * b, low = product_error<T>(a, b, turns);
    const vec<T> near = turn_traits<T>::few_turns;
    if (any(abs<T>(turns) >= near)) {
      const vec<T> x = part_of_turn<T>(turns), y = part_of_turn<T>(low);
      turns = x + y;
      const vec<T> own = turns - x;
      low = (x - (turns - own)) + (y - own);
    }
    return of(turns, low);
  }
  // With a shift of quarter turns, which are the sum of two numbers as well.
  quarter_turns plus(vec<T> shift, vec<T> low) const {
    const vec<T> sum = rest + shift, own = sum - rest;
    const vec<T> lost = ((rest - (sum - own)) + (shift - own)) + low;
    const vec<T> shifted = sum + vec<T>(float_traits<T>::round_magic);
    const vec<T> left = sum - (shifted - vec<T>(float_traits<T>::round_magic));
    return {number + bit_cast<int_of<T>>(shifted), left + lost};
  }
};

template <class T>
struct sine_cosine {
  vec<T> sine, cosine;

  explicit sine_cosine(const quarter_turns<T>& angle) {
    using traits = turn_traits<T>;
    using I = int_of<T>;
    const vec<T> r = angle.rest, z = r * r;
    const vec<T> low =
        fma<T>(r * z, polynomial<T>(z, traits::sin_poly), r * vec<T>(traits::half_pi_low));
    const vec<T> s = fma<T>(r, traits::half_pi, low);
    const vec<T> c = fma<T>(z, polynomial<T>(z, traits::cos_poly), T(1));
    const vec<I> one = I(1), two = I(2);
    const vec<I> is_odd = (angle.number & one) == one;
    // The second bit as that of the sign.
    const auto negated = [&](vec<T> x, vec<I> number) {
      const vec<I> sign = (number & two) << (8 * int(sizeof(T)) - 2);
      return bit_cast<T>(bit_cast<I>(x) ^ sign);
    };
    sine = negated(select<T>(is_odd, c, s), angle.number);
    cosine = negated(select<T>(is_odd, s, c), angle.number + one);
  }
};

}  // namespace dlcore
