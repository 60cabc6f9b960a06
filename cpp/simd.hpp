// vec<T>: one register of the instruction set that this file is compiled for.
//
// GCC's and Clang's vector extensions give arithmetic, comparison and selection; the few operations
// they lack (multiply-add, square root, loads and stores of a part of a register) are intrinsics
// here and nowhere else. Partial loads and stores touch nothing beyond the elements that they name.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace dlcore {

#if defined(__AVX512F__)
inline constexpr std::ptrdiff_t register_bytes = 64;
#elif defined(__AVX2__)
inline constexpr std::ptrdiff_t register_bytes = 32;
#else
inline constexpr std::ptrdiff_t register_bytes = 16;
#endif

// The integer that has the width of T: the element of a mask, and of T's bit pattern.
template <class T>
using int_of = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
struct native_of;  // spelled out, since GCC loses the attribute on a dependent type
template <>
struct native_of<float> {
  typedef float type __attribute__((vector_size(register_bytes)));
};
template <>
struct native_of<double> {
  typedef double type __attribute__((vector_size(register_bytes)));
};
template <>
struct native_of<std::int32_t> {
  typedef std::int32_t type __attribute__((vector_size(register_bytes)));
};
template <>
struct native_of<std::int64_t> {
  typedef std::int64_t type __attribute__((vector_size(register_bytes)));
};

template <class T>
struct vec {
  static constexpr std::ptrdiff_t size = register_bytes / std::ptrdiff_t(sizeof(T));
  using native = typename native_of<T>::type;

  native v;

  vec() = default;
  vec(native x) : v(x) {}
  vec(T x) : v(x - native{}) {}  // a broadcast: x - 0 is x, -0 too, where x + 0 is not

  friend vec operator+(vec a, vec b) { return a.v + b.v; }
  friend vec operator-(vec a, vec b) { return a.v - b.v; }
  friend vec operator*(vec a, vec b) { return a.v * b.v; }
  friend vec operator/(vec a, vec b) { return a.v / b.v; }
  friend vec operator-(vec a) { return -a.v; }
  friend vec operator&(vec a, vec b) { return a.v & b.v; }
  friend vec operator|(vec a, vec b) { return a.v | b.v; }
  friend vec operator^(vec a, vec b) { return a.v ^ b.v; }
  friend vec operator~(vec a) { return ~a.v; }
  friend vec operator<<(vec a, int n) { return a.v << n; }
  friend vec operator>>(vec a, int n) { return a.v >> n; }
  vec& operator+=(vec b) { return *this = *this + b; }
  vec& operator-=(vec b) { return *this = *this - b; }
  vec& operator*=(vec b) { return *this = *this * b; }

  // Comparisons give -1 or 0 in each lane; any of them with NaN is false, except !=.
  using mask = vec<int_of<T>>;
  friend mask operator<(vec a, vec b) { return typename mask::native(a.v < b.v); }
  friend mask operator<=(vec a, vec b) { return typename mask::native(a.v <= b.v); }
  friend mask operator>(vec a, vec b) { return typename mask::native(a.v > b.v); }
  friend mask operator>=(vec a, vec b) { return typename mask::native(a.v >= b.v); }
  friend mask operator==(vec a, vec b) { return typename mask::native(a.v == b.v); }
  friend mask operator!=(vec a, vec b) { return typename mask::native(a.v != b.v); }
};

template <class T>
using mask = vec<int_of<T>>;

template <class T>
inline vec<T> select(mask<T> m, vec<T> a, vec<T> b) {
  return m.v ? a.v : b.v;
}

template <class To, class From>
inline vec<To> bit_cast(vec<From> x) {
  static_assert(sizeof(To) == sizeof(From));
  return (typename vec<To>::native)x.v;
}

// The lane's number: 0, 1, 2, ...
template <class T>
inline vec<T> iota() {
  vec<T> r;
  for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i) r.v[i] = T(i);
  return r;
}

// The first n lanes; the others are 0.
template <class T>
inline vec<T> first_lanes(vec<T> x, std::ptrdiff_t n) {
  return select<T>(iota<int_of<T>>() < vec<int_of<T>>(int_of<T>(n)), x, vec<T>(T(0)));
}

template <class T>
inline bool any(vec<T> m) {
  std::int64_t words[register_bytes / 8];
  std::memcpy(words, &m.v, sizeof words);
  std::int64_t all = 0;
  for (std::int64_t w : words) all |= w;
  return all != 0;
}

// ---- loads and stores -------------------------------------------------------------------------

template <class T>
inline vec<T> load(const T* p) {
  vec<T> r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}

template <class T>
inline void store(T* p, vec<T> x) {
  std::memcpy(p, &x.v, sizeof x.v);
}

// The first n elements, 0 <= n < size; the other lanes are `fill`.
template <class T>
inline vec<T> load_part(const T* p, std::ptrdiff_t n, T fill = T(0)) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return vec<T>((typename vec<T>::native)_mm512_mask_loadu_ps((__m512)vec<T>(fill).v,
                                                                __mmask16((1u << n) - 1), p));
  if constexpr (std::is_same_v<T, double>)
    return vec<T>((typename vec<T>::native)_mm512_mask_loadu_pd((__m512d)vec<T>(fill).v,
                                                                __mmask8((1u << n) - 1), p));
#endif
  vec<T> r(fill);
  for (std::ptrdiff_t i = 0; i < vec<T>::size - 1; ++i)
    if (i < n) r.v[i] = p[i];
  return r;
}

template <class T>
inline void store_part(T* p, vec<T> x, std::ptrdiff_t n) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)x.v);
  if constexpr (std::is_same_v<T, double>)
    return _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)x.v);
#endif
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = x.v[i];
}

// The elements at these byte offsets from `base`, of any alignment.
template <class T>
inline vec<T> gather_lanes(const void* base, vec<int_of<T>> offset) {
  using native [[maybe_unused]] = typename vec<T>::native;
  [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  const __m512i i = (__m512i)offset.v;
  if constexpr (is_float)
    return native(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, i, base, 1));
  else return native(_mm512_mask_i64gather_pd(_mm512_setzero_pd(), 0xff, i, base, 1));
#else
  vec<T> r;
  for (std::ptrdiff_t k = 0; k < vec<T>::size; ++k) {
    T value;
    std::memcpy(&value, static_cast<const char*>(base) + offset.v[k], sizeof value);
    r.v[k] = value;
  }
  return r;
#endif
}

// ---- operations that the vector extensions lack -------------------------------------------------

// a * b + c, rounded once where the instruction set can, twice where it can't (x86-64, generic).
template <class T>
inline vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
  using native [[maybe_unused]] = typename vec<T>::native;
  [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (is_float) return native(_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
  else return native(_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#elif defined(__FMA__)
  if constexpr (is_float) return native(_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
  else return native(_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#elif defined(__aarch64__)
  if constexpr (is_float)
    return native(vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v));
  else return native(vfmaq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v));
#else
  return a * b + c;
#endif
}

template <class T>
inline vec<T> sqrt(vec<T> x) {
  using native [[maybe_unused]] = typename vec<T>::native;
  [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (is_float) return native(_mm512_maskz_sqrt_ps(0xffff, (__m512)x.v));
  else return native(_mm512_maskz_sqrt_pd(0xff, (__m512d)x.v));
#elif defined(__AVX2__)
  if constexpr (is_float) return native(_mm256_sqrt_ps((__m256)x.v));
  else return native(_mm256_sqrt_pd((__m256d)x.v));
#elif defined(__x86_64__)
  if constexpr (is_float) return native(_mm_sqrt_ps((__m128)x.v));
  else return native(_mm_sqrt_pd((__m128d)x.v));
#elif defined(__aarch64__)
  if constexpr (is_float) return native(vsqrtq_f32((float32x4_t)x.v));
  else return native(vsqrtq_f64((float64x2_t)x.v));
#else
  vec<T> r;
  for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i) r.v[i] = std::sqrt(x.v[i]);
  return r;
#endif
}

// x 2^n for integers n held as floating numbers, rounded once: one instruction where there is one.
template <class T>
inline constexpr bool has_scale = register_bytes == 64;

template <class T>
inline vec<T> scale(vec<T> x, [[maybe_unused]] vec<T> n) {
#if defined(__AVX512F__)
  using native = typename vec<T>::native;
  if constexpr (std::is_same_v<T, float>)
    return native(_mm512_maskz_scalef_ps(0xffff, (__m512)x.v, (__m512)n.v));
  else return native(_mm512_maskz_scalef_pd(0xff, (__m512d)x.v, (__m512d)n.v));
#else
  static_assert(has_scale<T>);
  return x;
#endif
}

// a unless b is greater. A NaN in b is passed over, a NaN in a stays.
template <class T>
inline vec<T> max(vec<T> a, vec<T> b) {
  return select<T>(b > a, b, a);
}

template <class T>
inline vec<T> min(vec<T> a, vec<T> b) {
  return select<T>(b < a, b, a);
}

template <class T>
inline constexpr int_of<T> sign_bit = std::numeric_limits<int_of<T>>::min();

template <class T>
inline vec<T> abs(vec<T> x) {
  return bit_cast<T>(bit_cast<int_of<T>>(x) & vec<int_of<T>>(int_of<T>(~sign_bit<T>)));
}

// |magnitude| with the sign of `sign`; magnitude must not be negative.
template <class T>
inline vec<T> copy_sign(vec<T> magnitude, vec<T> sign) {
  using I = int_of<T>;
  return bit_cast<T>(bit_cast<I>(magnitude) | (bit_cast<I>(sign) & vec<I>(sign_bit<T>)));
}

// ---- reductions ---------------------------------------------------------------------------------

// Combines the lanes in a fixed tree.
template <class T, class F>
inline T fold(vec<T> x, F f) {
  T lanes[vec<T>::size];
  std::memcpy(lanes, &x.v, sizeof lanes);
  for (std::ptrdiff_t half = vec<T>::size / 2; half > 0; half /= 2)
    for (std::ptrdiff_t i = 0; i < half; ++i) lanes[i] = f(lanes[i], lanes[i + half]);
  return lanes[0];
}

template <class T>
inline T reduce_add(vec<T> x) {
  return fold(x, [](T a, T b) { return a + b; });
}

template <class T>
inline T reduce_max(vec<T> x) {
  return fold(x, [](T a, T b) { return b > a ? b : a; });
}

// One register of T as doubles: `part` 0 or, for float, 0 and 1.
template <class T>
inline constexpr int wide_parts = sizeof(double) / sizeof(T);

template <class T>
inline vec<double> widen(vec<T> x, [[maybe_unused]] int part) {
  if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    using native [[maybe_unused]] = vec<double>::native;
    // By intrinsics: halves taken apart in memory stall on the store.
#if defined(__AVX512F__)
    const __m512 v = (__m512)x.v;
    const __m256 half = part == 0 ? _mm512_maskz_extractf32x8_ps(0xff, v, 0)
                                  : _mm512_maskz_extractf32x8_ps(0xff, v, 1);
    return native(_mm512_maskz_cvtps_pd(0xff, half));
#elif defined(__AVX2__)
    const __m256 v = (__m256)x.v;
    return native(
        _mm256_cvtps_pd(part == 0 ? _mm256_castps256_ps128(v) : _mm256_extractf128_ps(v, 1)));
#elif defined(__x86_64__)
    const __m128 v = (__m128)x.v;
    return native(_mm_cvtps_pd(part == 0 ? v : _mm_movehl_ps(v, v)));
#else
    typedef float half __attribute__((vector_size(register_bytes / 2)));
    half h[2];
    std::memcpy(&h, &x.v, sizeof h);
    return vec<double>(__builtin_convertvector(h[part], native));
#endif
  }
}

// The inverse of widen.
inline vec<float> narrow(vec<double> low, vec<double> high) {
  using native [[maybe_unused]] = vec<float>::native;
#if defined(__AVX512F__)
  const __m256 l = _mm512_maskz_cvtpd_ps(0xff, (__m512d)low.v);
  const __m256 h = _mm512_maskz_cvtpd_ps(0xff, (__m512d)high.v);
  return native(_mm512_insertf32x8(_mm512_castps256_ps512(l), h, 1));
#elif defined(__AVX2__)
  return native(_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high.v), _mm256_cvtpd_ps((__m256d)low.v)));
#elif defined(__x86_64__)
  return native(_mm_movelh_ps(_mm_cvtpd_ps((__m128d)low.v), _mm_cvtpd_ps((__m128d)high.v)));
#else
  typedef float half __attribute__((vector_size(register_bytes / 2)));
  half h[2] = {__builtin_convertvector(low.v, half), __builtin_convertvector(high.v, half)};
  vec<float> r;
  std::memcpy(&r.v, h, sizeof r.v);
  return r;
#endif
}

// Per-lane sums in double, whatever T is.
template <class T>
struct wide_sum {
  vec<double> parts[wide_parts<T>];

  wide_sum() {
    for (auto& p : parts) p = vec<double>(0.0);
  }
  void add(vec<T> x) {
    for (int i = 0; i < wide_parts<T>; ++i) parts[i] += widen(x, i);
  }
  // The sum of each lane, rounded to T.
  vec<T> lanes() const {
    if constexpr (std::is_same_v<T, double>) return parts[0];
    else return narrow(parts[0], parts[1]);
  }
  double total() const {
    vec<double> sum = parts[0];
    for (int i = 1; i < wide_parts<T>; ++i) sum += parts[i];
    return reduce_add(sum);
  }
};

// Per-lane sums that add in T, fast, but no more than `block` terms before they go to double.
template <class T>
struct block_sum {
  static constexpr int block = 16;
  wide_sum<T> flushed;
  vec<T> open = T(0);
  int count = 0;

  void add(vec<T> x) {
    open += x;
    if (++count == block) flush();
  }
  void flush() {
    flushed.add(open);
    open = T(0);
    count = 0;
  }
  vec<T> lanes() {
    flush();
    return flushed.lanes();
  }
  double total() {
    flush();
    return flushed.total();
  }
};

}  // namespace dlcore
