// x86-64-v3: AVX2 and multiply-add.
#pragma once

#include "simd/x86.hpp"

namespace dlcore {

struct avx2_set : x86_operations<avx2_set> {
  template <class T>
  static bool any(vec<T> m) {
    return !_mm256_testz_si256((__m256i)m.v, (__m256i)m.v);
  }
  template <class I>
  static std::uint32_t bits_of_lanes(vec<I> m) {
    return std::uint32_t(sizeof(I) == 4 ? _mm256_movemask_ps((__m256)m.v)
                                        : _mm256_movemask_pd((__m256d)m.v));
  }

  template <class T>
  static vec<T> load_part(const T* p, std::ptrdiff_t n, T fill) {
    using native [[maybe_unused]] = typename vec<T>::native;
    [[maybe_unused]] const mask<T> wanted = iota<int_of<T>>() < vec<int_of<T>>(int_of<T>(n));
    if constexpr (std::is_same_v<T, float>)
      return select<T>(wanted, native(_mm256_maskload_ps(p, (__m256i)wanted.v)), fill);
    else if constexpr (std::is_same_v<T, double>)
      return select<T>(wanted, native(_mm256_maskload_pd(p, (__m256i)wanted.v)), fill);
    else return x86_operations::load_part<T>(p, n, fill);
  }
  // By halves: some processors make dozens of operations of a masked store.
  template <class T>
  static void store_part(T* p, vec<T> x, std::ptrdiff_t n) {
    if constexpr (std::is_same_v<T, float>) {
      __m128 part = _mm256_castps256_ps128((__m256)x.v);
      if (n & 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps((__m256)x.v, 1), p += 4;
      }
      if (n & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), part);
        part = _mm_movehl_ps(part, part), p += 2;
      }
      if (n & 1) _mm_store_ss(p, part);
    } else if constexpr (std::is_same_v<T, double>) {
      __m128d part = _mm256_castpd256_pd128((__m256d)x.v);
      if (n & 2) {
        _mm_storeu_pd(p, part);
        part = _mm256_extractf128_pd((__m256d)x.v, 1), p += 2;
      }
      if (n & 1) _mm_store_sd(p, part);
    } else x86_operations::store_part<T>(p, x, n);
  }
  template <class T>
  static void store_stream(T* p, vec<T> x) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)x.v);
  }

  static constexpr bool has_fma = true;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
    else return native(_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
  }
  template <class T>
  static vec<T> sqrt(vec<T> x) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm256_sqrt_ps((__m256)x.v));
    else return native(_mm256_sqrt_pd((__m256d)x.v));
  }
  template <class T>
  static vec<T> max(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm256_max_ps((__m256)b.v, (__m256)a.v));
    else return native(_mm256_max_pd((__m256d)b.v, (__m256d)a.v));
  }
  template <class T>
  static vec<T> min(vec<T> a, vec<T> b) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(_mm256_min_ps((__m256)b.v, (__m256)a.v));
    else return native(_mm256_min_pd((__m256d)b.v, (__m256d)a.v));
  }

  static vec<double> widen(vec<float> x, int part) {
    const __m256 v = (__m256)x.v;
    return vec<double>::native(
        _mm256_cvtps_pd(part == 0 ? _mm256_castps256_ps128(v) : _mm256_extractf128_ps(v, 1)));
  }
  static vec<float> narrow(vec<double> low, vec<double> high) {
    return vec<float>::native(
        _mm256_set_m128(_mm256_cvtpd_ps((__m256d)high.v), _mm256_cvtpd_ps((__m256d)low.v)));
  }
  static vec<double> load_wide(const float* p, int part) {
    return vec<double>::native(_mm256_cvtps_pd(_mm_loadu_ps(p + 4 * part)));
  }
  static void store_narrow(float* p, vec<double> low, vec<double> high) {
    _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)low.v));
    _mm_storeu_ps(p + 4, _mm256_cvtpd_ps((__m256d)high.v));
  }
};

}  // namespace dlcore
