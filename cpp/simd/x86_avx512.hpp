// x86-64-v4: AVX-512. Intrinsics with a mask of all lanes, where those without one make GCC 12 warn
// of uninitialized registers in its own headers.
#pragma once

#include "simd/x86.hpp"

namespace dlcore {

struct avx512_set : x86_operations<avx512_set> {
  static constexpr int tile_rows = 14;

  template <class T>
  static bool any(vec<T> m) {
    return _mm512_test_epi64_mask((__m512i)m.v, (__m512i)m.v) != 0;
  }
  template <class I>
  static std::uint32_t bits_of_lanes(vec<I> m) {
    if constexpr (sizeof(I) == 4) return _mm512_movepi32_mask((__m512i)m.v);
    else return _mm512_movepi64_mask((__m512i)m.v);
  }
  template <class T>
  static bool all_at_least(vec<T> a, vec<T> b) {
    if constexpr (std::is_same_v<T, float>)
      return _mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_NGE_UQ) == 0;
    else return _mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, _CMP_NGE_UQ) == 0;
  }

  template <class T>
  static vec<T> load_part(const T* p, std::ptrdiff_t n, T fill) {
    using native [[maybe_unused]] = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_mask_loadu_ps((__m512)vec<T>(fill).v, __mmask16((1u << n) - 1), p));
    else if constexpr (std::is_same_v<T, double>)
      return native(_mm512_mask_loadu_pd((__m512d)vec<T>(fill).v, __mmask8((1u << n) - 1), p));
    else return x86_operations::load_part<T>(p, n, fill);
  }
  template <class T>
  static void store_part(T* p, vec<T> x, std::ptrdiff_t n) {
    if constexpr (std::is_same_v<T, float>)
      _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)x.v);
    else if constexpr (std::is_same_v<T, double>)
      _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)x.v);
    else x86_operations::store_part<T>(p, x, n);
  }
  template <class T>
  static void store_stream(T* p, vec<T> x) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)x.v);
  }
  template <class T>
  static vec<T> gather_lanes(const void* base, vec<int_of<T>> offset) {
    using native = typename vec<T>::native;
    const __m512i i = (__m512i)offset.v;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, i, base, 1));
    else return native(_mm512_mask_i64gather_pd(_mm512_setzero_pd(), 0xff, i, base, 1));
  }

  static constexpr bool has_fma = true;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
    else return native(_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
  }
  template <class T>
  static vec<T> sqrt(vec<T> x) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_maskz_sqrt_ps(0xffff, (__m512)x.v));
    else return native(_mm512_maskz_sqrt_pd(0xff, (__m512d)x.v));
  }

  // A division of floats keeps the 64-byte unit busy for ten cycles, the estimate with a Newton
  // step for three.
  template <class T>
  static vec<T> reciprocal(vec<T> x) {
    const vec<T> one = T(1);
    if constexpr (std::is_same_v<T, float>) {
      const vec<T> y = typename vec<T>::native(_mm512_maskz_rcp14_ps(0xffff, (__m512)x.v));
      return fma<T>(y, fma<T>(-x, y, one), y);
    } else {
      return one / x;
    }
  }
  // Divisions of doubles keep the unit busy for sixteen cycles, the estimate with its steps for
  // six. Of floats, where an update has other work meanwhile, the instructions for both quotient
  // and root take 0.9 of the time.
  template <class T>
  static vec<T> quotient(vec<T> x, vec<T> y) {
    const auto exact = [&] { return x / y; };
    if constexpr (std::is_same_v<T, float>) {
      return exact();
    } else {
      const vec<T> one = T(1);
      const vec<T> rough = typename vec<T>::native(_mm512_maskz_rcp14_pd(0xff, (__m512d)y.v));
      const vec<T> e = fma<T>(-y, rough, one), inverse = fma<T>(rough, fma<T>(e, e, e), rough);
      const vec<T> q = x * inverse;
      return where_usual<T>(y, fma<T>(fma<T>(-y, q, x), inverse, q), exact);
    }
  }
  // A root of doubles keeps the unit busy for 32 cycles, the estimate with its steps for nine.
  template <class T>
  static vec<T> root(vec<T> x) {
    const auto exact = [&] { return sqrt<T>(x); };
    if constexpr (std::is_same_v<T, float>) {
      return exact();
    } else {
      const vec<T> half = T(0.5);
      // Goldschmidt's steps: g nears the root, h half of its reciprocal.
      const vec<T> y = typename vec<T>::native(_mm512_maskz_rsqrt14_pd(0xff, (__m512d)x.v));
      vec<T> g = x * y, h = half * y;
      const vec<T> e = fma<T>(-g, h, half);
      g = fma<T>(g, e, g), h = fma<T>(h, e, h);
      g = fma<T>(g, fma<T>(-g, h, half), g);
      return where_usual<T>(x, fma<T>(fma<T>(-g, g, x), h, g), exact);
    }
  }

  static constexpr bool has_scale = true;
  template <class T>
  static vec<T> scale(vec<T> x, vec<T> n) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_maskz_scalef_ps(0xffff, (__m512)x.v, (__m512)n.v));
    else return native(_mm512_maskz_scalef_pd(0xff, (__m512d)x.v, (__m512d)n.v));
  }
  template <class T>
  static vec<T> max(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_maskz_max_ps(0xffff, (__m512)b.v, (__m512)a.v));
    else return native(_mm512_maskz_max_pd(0xff, (__m512d)b.v, (__m512d)a.v));
  }
  template <class T>
  static vec<T> min(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm512_maskz_min_ps(0xffff, (__m512)b.v, (__m512)a.v));
    else return native(_mm512_maskz_min_pd(0xff, (__m512d)b.v, (__m512d)a.v));
  }

  // By intrinsics: halves taken apart in memory stall on the store.
  static vec<double> widen(vec<float> x, int part) {
    const __m512 v = (__m512)x.v;
    const __m256 half = part == 0 ? _mm512_maskz_extractf32x8_ps(0xff, v, 0)
                                  : _mm512_maskz_extractf32x8_ps(0xff, v, 1);
    return vec<double>::native(_mm512_maskz_cvtps_pd(0xff, half));
  }
  static vec<float> narrow(vec<double> low, vec<double> high) {
    const __m256 l = _mm512_maskz_cvtpd_ps(0xff, (__m512d)low.v);
    const __m256 h = _mm512_maskz_cvtpd_ps(0xff, (__m512d)high.v);
    return vec<float>::native(_mm512_insertf32x8(_mm512_castps256_ps512(l), h, 1));
  }
  static vec<double> load_wide(const float* p, int part) {
    return vec<double>::native(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p + 8 * part)));
  }
  static void store_narrow(float* p, vec<double> low, vec<double> high) {
    _mm256_storeu_ps(p, _mm512_maskz_cvtpd_ps(0xff, (__m512d)low.v));
    _mm256_storeu_ps(p + 8, _mm512_maskz_cvtpd_ps(0xff, (__m512d)high.v));
  }

 private:
  // Of the fast and the exact results of an operation the fast ones where x is usual: neither it
  // nor its reciprocal near overflow. Lane by lane, so that no element's bits depend on those
  // beside it; `exact` is called where it is needed.
  template <class T, class Exact>
  static vec<T> where_usual(vec<T> x, vec<T> fast, const Exact& exact) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) {
      const __mmask16 above = _mm512_cmp_ps_mask((__m512)x.v, _mm512_set1_ps(1e-36f), _CMP_GT_OQ);
      const __mmask16 usual =
          _mm512_mask_cmp_ps_mask(above, (__m512)x.v, _mm512_set1_ps(1e36f), _CMP_LT_OQ);
      if (usual == 0xffff) return fast;
      return native(_mm512_mask_blend_ps(usual, (__m512)exact().v, (__m512)fast.v));
    } else {
      const __mmask8 above = _mm512_cmp_pd_mask((__m512d)x.v, _mm512_set1_pd(1e-280), _CMP_GT_OQ);
      const __mmask8 usual =
          _mm512_mask_cmp_pd_mask(above, (__m512d)x.v, _mm512_set1_pd(1e280), _CMP_LT_OQ);
      if (usual == 0xff) return fast;
      return native(_mm512_mask_blend_pd(usual, (__m512d)exact().v, (__m512d)fast.v));
    }
  }
};

}  // namespace dlcore
