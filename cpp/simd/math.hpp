// exp, log, log1p, expm1, tanh, sigmoid and the normal distribution on a register.
//
// Largest errors in ULP over all 2^32 floats: exp 1.09, expm1 1.76, log 0.84, log1p 0.84, sigmoid
// 2.41, tanh 2.50, with and without multiply-add; over random doubles about the same, normal_cdf
// below 6 in both. tests/test_math.py holds them (pytest -m slow: every float).
//
// Polynomial coefficients: coefficients.py. log's series: Sun's fdlibm (e_log.c, s_log1p.c).
#pragma once

#include <array>

#include "simd/vec.hpp"

namespace dlcore {

template <class T>
struct float_traits;

template <>
struct float_traits<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr std::int32_t bias = 127;
  static constexpr float round_magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to integer
  // ln 2 in two parts: n * ln2_high is exact for every exponent n.
  static constexpr float ln2_high = 0.693359375f;
  static constexpr float ln2_low = -2.12194440e-4f;
  // Beyond these exp is 0 and infinity.
  static constexpr float exp_min = -104.0f;
  // Below this exp is subnormal: log(2^-126).
  static constexpr float exp_normal_min = -87.336544f;
  // With half the square of an argument above the first, the tail of the normal distribution is
  // nearly subnormal; above the second it is 0, times the argument, too.
  static constexpr float far_square = 83.2f, farthest_square = 106.0f;
  static constexpr float exp_max = 89.0f;
  // Below this expm1 is -1 to the last bit.
  static constexpr float expm1_min = -18.0f;
  // Half the mantissa: x & split_mask squares exactly.
  static constexpr std::int32_t split_mask = ~0xfff;
  static constexpr float exp_poly[] = {0.5f, 0.16666576666119928f, 0.04166655421298415f,
                                       0.008363232883682618f, 0.0013926250831497611f};
  static constexpr float log_poly[] = {0.66666662693f, 0.40000972152f, 0.28498786688f,
                                       0.24279078841f};
  static constexpr float atanh_poly[] = {0.6666666732052742f, 0.3999970633192972f,
                                         0.28592357994302836f, 0.21706575800880373f,
                                         0.2322432922402335f};
  static constexpr float log1p_poly[] = {
      0.37813957086093075f,  -0.17922493897790284f, 0.09322970891822155f,  -0.051083038528451655f,
      0.02896400818693947f,  -0.01680165150955186f, 0.009681858671931063f, -0.005787683439985007f,
      0.004576878014833635f, -0.00280164199280335f};
  static constexpr float tail_poly[] = {
      0.4720532063989766f,     -0.09670346798073925f,    0.013999636592802041f,
      0.028600032795032343f,   -0.03219781535425328f,    0.017939449481637414f,
      -0.00500214085321408f,   -0.00029991876126557443f, 0.0006908448555668235f,
      -6.673718492437857e-05f, -7.437454416754374e-05f};
};

template <>
struct float_traits<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr std::int64_t bias = 1023;
  static constexpr double round_magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 6.93147180369123816490e-01;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_min = -746.0;
  static constexpr double exp_normal_min = -708.3964185322641;
  static constexpr double far_square = 699.0, farthest_square = 749.0;
  static constexpr double exp_max = 710.0;
  static constexpr double expm1_min = -38.0;
  static constexpr std::int64_t split_mask = ~0x7ffffffll;
  static constexpr double exp_poly[] = {0.5000000000000001,     0.16666666666666669,
                                        0.041666666666623824,   0.008333333333330039,
                                        0.0013888888917367081,  0.00019841269863171557,
                                        2.4801521057868204e-05, 2.7557268276905696e-06,
                                        2.7620201591031547e-07, 2.5100472505694996e-08};
  static constexpr double log_poly[] = {6.666666666666735130e-01, 3.999999999940941908e-01,
                                        2.857142874366239149e-01, 2.222219843214978396e-01,
                                        1.818357216161805012e-01, 1.531383769920937332e-01,
                                        1.479819860511658591e-01};
  static constexpr double atanh_poly[] = {
      0.6666666666666666,  0.40000000000014585, 0.2857142856710876,  0.22222222717427864,
      0.18181789436132859, 0.15385570064958623, 0.13314144209654935, 0.12001072809590713,
      0.08800738486144674, 0.1616404561194353};
  static constexpr double tail_poly[] = {
      0.47205320650984467,    -0.09670347732652591,    0.013999634724427307,
      0.028600364053554508,   -0.03219783742821711,    0.017936097479739982,
      -0.0050023785877258715, -0.00028562310086962774, 0.0006948970627871803,
      -9.44302210508421e-05,  -8.785288059064534e-05,  2.124987440547043e-05,
      1.36255052994367e-05,   -3.4317287335812586e-06, -2.608970322687991e-06,
      4.0399817334585976e-07, 5.447015691037186e-07,   9.236356653982009e-10,
      -1.025959492582906e-07, -1.7843887219705214e-08, 1.2171219383199082e-08,
      4.103899771783496e-09};
};

// c[0] + c[1] x + c[2] x^2 + ... Not a loop, which compilers leave as one here and there: a third
// slower.
template <class T, std::size_t N, std::size_t... I>
inline vec<T> polynomial(vec<T> x, const T (&c)[N], std::index_sequence<I...>) {
  vec<T> r = c[N - 1];
  ((r = fma<T>(r, x, c[N - 2 - I])), ...);
  return r;
}
template <class T, std::size_t N>
inline vec<T> polynomial(vec<T> x, const T (&c)[N]) {
  return polynomial<T>(x, c, std::make_index_sequence<N - 1>());
}

// 2^n for integers n held as floating numbers, within the exponents of normal numbers.
template <class T>
inline vec<T> power_of_two(vec<T> n) {
  using F = float_traits<T>;
  using I = int_of<T>;
  // The sum's low bits hold n + bias: no conversion instruction, which AVX2 lacks for 64 bits.
  vec<T> shifted = n + vec<T>(F::round_magic + T(F::bias));
  return bit_cast<T>(bit_cast<I>(shifted) << F::mantissa_bits);
}

// x = n ln 2 + r with |r| <= ln(2) / 2; expm1 is e^r - 1.
template <class T>
struct exp_parts {
  vec<T> n, expm1;
  vec<T> shifted;  // n + round_magic: n in the low bits

  explicit exp_parts(vec<T> x) {
    using F = float_traits<T>;
    constexpr T log2e = T(1.44269504088896340736);
    shifted = fma<T>(x, log2e, F::round_magic);
    n = shifted - vec<T>(F::round_magic);
    vec<T> r = fma<T>(n, -F::ln2_low, fma<T>(n, -F::ln2_high, x));
    expm1 = fma<T>(r * r, polynomial<T>(r, F::exp_poly), r);
  }
};

// What rounding the product of a and b has lost.
template <class T>
inline vec<T> product_error(vec<T> a, vec<T> b, vec<T> product) {
  if constexpr (has_fma) return fma<T>(a, b, -product);
  // Dekker: the products of halves are exact.
  using I = int_of<T>;
  const vec<I> half = float_traits<T>::split_mask;
  const vec<T> high_a = bit_cast<T>(bit_cast<I>(a) & half), low_a = a - high_a;
  const vec<T> high_b = bit_cast<T>(bit_cast<I>(b) & half), low_b = b - high_b;
  return ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b;
}

template <class T>
inline vec<T> clamp(vec<T> x, T low, T high) {  // NaN stays
  return min<T>(max<T>(x, low), high);
}

// p 2^n for p near 1 and a normal result; n <= 0 saves a step.
template <class T, bool Negative>
inline vec<T> scale_by_power(vec<T> p, vec<T> n) {
  using F [[maybe_unused]] = float_traits<T>;
  if constexpr (has_scale<T>) return scale<T>(p, n);
  if constexpr (Negative) return p * power_of_two<T>(n);
  // In two steps, since 2^n may be beyond the largest number; an overflow is an infinity.
  const vec<T> half = fma<T>(n, T(0.5), F::round_magic) - vec<T>(F::round_magic);
  return p * power_of_two<T>(half) * power_of_two<T>(n - half);
}

// p 2^n where that is below the normal numbers. The processor would take some 150 cycles for it:
// 2^64 times larger, and added to the smallest normal number as much larger, the result has the
// spacing of the subnormal numbers and stands in the low bits.
template <class T>
inline vec<T> scale_to_subnormal(vec<T> p, vec<T> n) {
  using I = int_of<T>;
  constexpr T larger = T(18446744073709551616.0);
  const vec<T> smallest = std::numeric_limits<T>::min() * larger;
  const vec<T> sum = p * power_of_two<T>(n + vec<T>(T(64))) + smallest;
  return bit_cast<T>(bit_cast<I>(sum) - bit_cast<I>(smallest));
}

// Whether e^x is below the normal numbers, or NaN, in any lane: seldom.
template <class T>
inline bool any_subnormal_exp(vec<T> x) {
  return __builtin_expect(!all_at_least<T>(x, float_traits<T>::exp_normal_min), false);
}

// e^x where it is a normal number, or NaN.
template <class T>
inline vec<T> exp_normal(vec<T> x) {
  using I = int_of<T>;
  const exp_parts<T> parts(x);
  const vec<T> p = parts.expm1 + vec<T>(T(1));
  if constexpr (has_scale<T>) return scale<T>(p, parts.n);
  // n is added to the exponent: two steps less than a product with 2^n.
  const vec<I> n = bit_cast<I>(parts.shifted) << float_traits<T>::mantissa_bits;
  return bit_cast<T>(bit_cast<I>(p) + n);
}

// e^x for x not below exp_min and not above exp_max.
template <class T, bool Negative>
inline vec<T> exp_in_range(vec<T> x) {
  const exp_parts<T> parts(x);
  const vec<T> p = parts.expm1 + vec<T>(T(1)), n = parts.n;
  if (any_subnormal_exp<T>(x)) {
    const mask<T> subnormal = x < vec<T>(float_traits<T>::exp_normal_min);
    const vec<T> normal = scale_by_power<T, Negative>(p, select<T>(subnormal, T(0), n));
    return select<T>(subnormal, scale_to_subnormal<T>(p, n), normal);
  }
  return scale_by_power<T, Negative>(p, n);
}

template <class T>
inline vec<T> exp(vec<T> x) {
  using F = float_traits<T>;
  return exp_in_range<T, false>(clamp<T>(x, F::exp_min, F::exp_max));
}

// exp for x <= 0 (or NaN).
template <class T>
inline vec<T> exp_negative(vec<T> x) {
  return exp_in_range<T, true>(max<T>(x, float_traits<T>::exp_min));
}

template <class T>
inline vec<T> expm1(vec<T> x) {
  using F = float_traits<T>;
  exp_parts<T> parts(clamp<T>(x, F::expm1_min, F::exp_max));
  // 2^(n-1): the largest n is one beyond the exponents.
  vec<T> scale = power_of_two<T>(parts.n - vec<T>(T(1)));
  vec<T> half = fma<T>(scale, parts.expm1, scale - vec<T>(T(0.5)));
  return select<T>(x == vec<T>(T(0)), x, half + half);  // -0 stays -0
}

// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for finite x > 0, denormals included.
template <class T>
struct log_parts {
  vec<T> k, f;

  explicit log_parts(vec<T> x) {
    using F = float_traits<T>;
    using I = int_of<T>;
    constexpr T tiny = std::numeric_limits<T>::min();
    constexpr T scale = T(std::int64_t(1) << (F::mantissa_bits + 1));
    mask<T> denormal = x < vec<T>(tiny);
    x = select<T>(denormal, x * vec<T>(scale), x);
    constexpr I root_half = sizeof(T) == 4 ? I(0x3f3504f3) : I(0x3fe6a09e667f3bcdll);
    vec<I> bits = bit_cast<I>(x);
    vec<I> e = (bits - vec<I>(root_half)) >> F::mantissa_bits;
    f = bit_cast<T>(bits - (e << F::mantissa_bits)) - vec<T>(T(1));
    // e as a floating number, through the bits of round_magic + e.
    k = bit_cast<T>(bit_cast<I>(vec<T>(F::round_magic)) + e) - vec<T>(F::round_magic);
    k = k - select<T>(denormal, vec<T>(T(F::mantissa_bits + 1)), vec<T>(T(0)));
  }
};

// k ln 2 + log(1 + f) + c, c a small correction of k ln 2 + log(1 + f).
template <class T>
inline vec<T> log_sum(vec<T> k, vec<T> f, vec<T> c) {
  using F = float_traits<T>;
  vec<T> s = f / (f + vec<T>(T(2)));
  vec<T> z = s * s;
  vec<T> half_square = vec<T>(T(0.5)) * f * f;
  vec<T> r = half_square + z * polynomial<T>(z, F::log_poly);
  vec<T> low = fma<T>(s, r, fma<T>(k, F::ln2_low, c));
  return fma<T>(k, F::ln2_high, f - (half_square - low));
}

template <class T>
inline vec<T> log(vec<T> x) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  log_parts<T> parts(x);
  vec<T> r = log_sum<T>(parts.k, parts.f, T(0));
  r = select<T>(x == vec<T>(inf), x, r);
  r = select<T>(x == vec<T>(T(0)), vec<T>(-inf), r);
  return select<T>(x >= vec<T>(T(0)), r, vec<T>(std::numeric_limits<T>::quiet_NaN()));
}

template <class T>
inline vec<T> log1p(vec<T> x) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  const vec<T> one = T(1), zero = T(0);
  vec<T> u = x + one;
  log_parts<T> parts(u);
  // What rounding 1 + x lost. Where 1 + x is within [sqrt(1/2), sqrt(2)), x itself is f.
  mask<T> near = parts.k == zero;
  vec<T> lost = select<T>(x > one, one - (u - x), x - (u - one));
  vec<T> f = select<T>(near, x, parts.f);
  vec<T> r = log_sum<T>(parts.k, f, select<T>(near, zero, lost / u));
  r = select<T>(x == vec<T>(inf), x, r);
  r = select<T>(x == zero, x, r);  // -0 stays -0
  r = select<T>(x == vec<T>(T(-1)), vec<T>(-inf), r);
  return select<T>(x >= vec<T>(T(-1)), r, vec<T>(std::numeric_limits<T>::quiet_NaN()));
}

// log1p for 0 <= x <= 1: no exponent to take apart.
template <class T>
inline vec<T> log1p_unit(vec<T> x) {
  using F = float_traits<T>;
  if constexpr (std::is_same_v<T, float> && has_fma) {
    // In x - 1/2, whose powers fade, and with them the rounding errors.
    return fma<T>(-x * x, polynomial<T>(x - vec<T>(0.5f), F::log1p_poly), x);
  } else {  // more exact without multiply-add; in double the other would be twice as long
    vec<T> s = x / (x + vec<T>(T(2)));
    vec<T> z = s * s;
    vec<T> half_square = vec<T>(T(0.5)) * x * x;
    vec<T> rest = fma<T>(z, polynomial<T>(z, F::atanh_poly), half_square);
    return x - (half_square - s * rest);
  }
}

// The sigmoid of x from e = e^-|x|, which never overflows and keeps the digits of a small result.
template <class T>
inline vec<T> sigmoid(vec<T> x, vec<T> e) {
  const vec<T> one = T(1);
  return select<T>(x < vec<T>(T(0)), e, one) / (one + e);
}
template <class T>
inline vec<T> sigmoid(vec<T> x) {
  return sigmoid<T>(x, exp_negative<T>(negative_abs<T>(x)));
}

template <class T>
inline vec<T> tanh(vec<T> x) {
  vec<T> t = expm1<T>(vec<T>(T(-2)) * abs(x));
  return copy_sign<T>(abs(t / (t + vec<T>(T(2)))), x);
}

// x^2 / 2 in two parts, the first exact: exp multiplies the error of its argument. Of |x| up to 40,
// where exp(-x^2 / 2) is 0.
template <class T>
struct half_square {
  vec<T> high, rest;

  explicit half_square(vec<T> x) {
    using I = int_of<T>;
    x = min<T>(abs(x), T(40));
    const vec<T> first = bit_cast<T>(bit_cast<I>(x) & vec<I>(float_traits<T>::split_mask));
    high = vec<T>(T(0.5)) * first * first;
    rest = vec<T>(T(0.5)) * ((x - first) * (x + first));
  }
  // Whether the normal distribution has a tail there that is nearly subnormal, or NaN: seldom.
  bool any_far() const {
    return __builtin_expect(!all_at_least<T>(-high, -float_traits<T>::far_square), false);
  }
};

// exp(-x^2 / 2), for the density and the tail of the standard normal distribution.
template <class T>
inline vec<T> normal_exponential(vec<T> x) {
  const half_square<T> h(x);
  return exp_negative<T>(-h.high) * exp_normal<T>(-h.rest);
}
// The same where no lane is far.
template <class T>
inline vec<T> near_normal_exponential(const half_square<T>& h) {
  return exp_normal<T>(-h.high) * exp_normal<T>(-h.rest);
}

// The same where lanes are far: in the lower tail 2^64 times as large, to be multiplied by `scale`
// last, since a subnormal number would have lost the digits that its product with x still has. 0
// where the tail is 0, and in the upper one, where 1 less the tail is 1.
template <class T>
struct far_normal_exponential {
  vec<T> value, scale;

  far_normal_exponential(vec<T> x, const half_square<T>& h) {
    const vec<T> zero = T(0), one = T(1);
    const mask<T> far = h.high > vec<T>(float_traits<T>::far_square);
    const mask<T> tail = far & (x < zero) & (h.high < vec<T>(float_traits<T>::farthest_square));
    const mask<T> none = far & ~tail;
    const exp_parts<T> parts(select<T>(none, zero, -h.high));
    const vec<T> n = parts.n + select<T>(tail, vec<T>(T(64)), zero);
    const vec<T> e = scale_by_power<T, true>(parts.expm1 + one, n);
    value = select<T>(none, zero, e * exp_normal<T>(-h.rest));
    scale = select<T>(tail, vec<T>(T(1) / T(18446744073709551616.0)), one);
  }
};

// The tail of the standard normal distribution beyond |x| (up to 40), where `exponential` is
// exp(-x^2 / 2): in proportion to it.
template <class T>
inline vec<T> normal_tail(vec<T> x, vec<T> exponential) {
  const vec<T> a = min<T>(abs(x), T(40));
  const vec<T> t = (a - vec<T>(T(4))) / (a + vec<T>(T(4)));
  return exponential * polynomial<T>(t, float_traits<T>::tail_poly) / (a + vec<T>(T(1)));
}

// The standard normal distribution function, right to the last digits in the lower tail.
// `exponential`: of the same x.
template <class T>
inline vec<T> normal_cdf(vec<T> x, vec<T> exponential) {
  const vec<T> tail = normal_tail<T>(x, exponential);
  return select<T>(x < vec<T>(T(0)), tail, vec<T>(T(1)) - tail);
}

}  // namespace dlcore
