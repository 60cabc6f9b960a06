// What has the bits of x86-64-v3 without its instructions: lanes of 32 bytes, made of two
// registers, and multiply-adds that are rounded once. Subnormal results and NaN aside, whose bits
// processors choose otherwise.
#pragma once

#if defined(__x86_64__)
#include "simd/x86.hpp"
#elif defined(__aarch64__)
#include "simd/arm_neon.hpp"
#endif

namespace dlcore {

#if defined(__aarch64__)

struct reproducible_set : arm_operations<reproducible_set> {
  static constexpr bool has_fma = true;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    typename neon_of<T>::type x[2], y[2], z[2];
    std::memcpy(x, &a.v, sizeof x), std::memcpy(y, &b.v, sizeof y), std::memcpy(z, &c.v, sizeof z);
    for (int half = 0; half < 2; ++half) z[half] = neon_fma(x[half], y[half], z[half]);
    std::memcpy(&c.v, z, sizeof z);
    return c;
  }
};

#else

// a + b, of what is not exact the neighbor with an odd last bit: rounded to float after that, it is
// as if it had been rounded once (Boldo, Melquiond: Emulation of FMA and correctly rounded sums:
// proved algorithms using rounding to odd, IEEE Transactions on Computers 57, 2008).
inline vec<double> sum_to_odd(vec<double> a, vec<double> b) {
  using bits = vec<std::int64_t>;
  const vec<double> sum = a + b, of_b = sum - a, lost = (a - (sum - of_b)) + (b - of_b), zero = 0.0;
  const bits one = std::int64_t(1), own = bit_cast<std::int64_t>(sum);
  const bits away = ~((lost > zero) ^ (sum > zero)), step = select<std::int64_t>(away, one, -one);
  // Of infinities and NaN nothing is lost: the comparisons are false.
  const bits moves = ((lost > zero) | (lost < zero)) & ((own & one) - one);
  return bit_cast<double>(own + (moves & step));
}

#if defined(__x86_64__)
template <class Set>
using processor_operations = x86_operations<Set>;

// a * b + c in doubles, where the product is exact, rounded to float. That is twice;
// `twice_rounded` tells whether it may matter: for a sum halfway between two floats, or a subnormal
// one.
inline __m128 sum_of_doubles(__m128 a, __m128 b, __m128 c, __m128& twice_rounded) {
  const auto half = [](__m128 x, __m128 y, __m128 z) {
    return _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y)), _mm_cvtps_pd(z));
  };
  const __m128d low = half(a, b, c);
  const __m128d high = half(_mm_movehl_ps(a, a), _mm_movehl_ps(b, b), _mm_movehl_ps(c, c));
  const __m128 sum = _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
  const __m128 ends = _mm_shuffle_ps((__m128)low, (__m128)high, _MM_SHUFFLE(2, 0, 2, 0));
  const __m128i between = _mm_and_si128((__m128i)ends, _mm_set1_epi32(0x1fffffff));
  const __m128 size = _mm_andnot_ps(_mm_set1_ps(-0.0f), sum);
  const __m128 small =
      _mm_and_ps(_mm_cmplt_ps(size, _mm_set1_ps(0x1p-125f)), _mm_cmpneq_ps(sum, _mm_setzero_ps()));
  const __m128i halfway = _mm_cmpeq_epi32(between, _mm_set1_epi32(0x10000000));
  twice_rounded = _mm_or_ps(twice_rounded, _mm_or_ps((__m128)halfway, small));
  return sum;
}
#else
template <class Set>
using processor_operations = generic_operations<Set>;
#endif

struct reproducible_set : processor_operations<reproducible_set> {
  static constexpr bool has_fma = true;
  // A call costs little beside its fifty instructions, which products would have a hundred times.
  template <class T>
  __attribute__((noinline)) static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    if constexpr (std::is_same_v<T, double>) {
      for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i) c.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
      return c;
    } else {
#if defined(__x86_64__)
      __m128 x[2], y[2], z[2], twice_rounded = _mm_setzero_ps();
      std::memcpy(x, &a.v, sizeof x), std::memcpy(y, &b.v, sizeof y),
          std::memcpy(z, &c.v, sizeof z);
      for (int half = 0; half < 2; ++half)
        z[half] = sum_of_doubles(x[half], y[half], z[half], twice_rounded);
      if (__builtin_expect(_mm_movemask_ps(twice_rounded) == 0, true)) {
        std::memcpy(&c.v, z, sizeof z);
        return c;
      }
#endif
      return narrow(sum_to_odd(widen(a, 0) * widen(b, 0), widen(c, 0)),
                    sum_to_odd(widen(a, 1) * widen(b, 1), widen(c, 1)));
    }
  }
};

#endif

}  // namespace dlcore
