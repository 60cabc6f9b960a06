// x86-64 as it began.
#pragma once

#include "simd/x86.hpp"

namespace dlcore {

struct sse2_set : x86_operations<sse2_set> {
  template <class T>
  static bool any(vec<T> m) {
    return _mm_movemask_epi8((__m128i)m.v) != 0;
  }
  template <class I>
  static std::uint32_t bits_of_lanes(vec<I> m) {
    return std::uint32_t(sizeof(I) == 4 ? _mm_movemask_ps((__m128)m.v)
                                        : _mm_movemask_pd((__m128d)m.v));
  }
  template <class T>
  static void store_stream(T* p, vec<T> x) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)x.v);
  }

  template <class T>
  static vec<T> sqrt(vec<T> x) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm_sqrt_ps((__m128)x.v));
    else return native(_mm_sqrt_pd((__m128d)x.v));
  }
  // The instructions mean just what max and min ask for, but GCC makes a comparison and a blend of
  // the selection.
  template <class T>
  static vec<T> max(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm_max_ps((__m128)b.v, (__m128)a.v));
    else return native(_mm_max_pd((__m128d)b.v, (__m128d)a.v));
  }
  template <class T>
  static vec<T> min(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm_min_ps((__m128)b.v, (__m128)a.v));
    else return native(_mm_min_pd((__m128d)b.v, (__m128d)a.v));
  }

  static vec<double> widen(vec<float> x, int part) {
    const __m128 v = (__m128)x.v;
    return vec<double>::native(_mm_cvtps_pd(part == 0 ? v : _mm_movehl_ps(v, v)));
  }
  static vec<float> narrow(vec<double> low, vec<double> high) {
    return vec<float>::native(
        _mm_movelh_ps(_mm_cvtpd_ps((__m128d)low.v), _mm_cvtpd_ps((__m128d)high.v)));
  }
};

}  // namespace dlcore
