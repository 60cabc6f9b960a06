// vec<T>: one register of the instruction set that this file is compiled for.
//
// GCC's and Clang's vector extensions give arithmetic, comparison and selection; the few operations
// they lack (multiply-add, square root, loads and stores of a part of a register) are intrinsics
// here and nowhere else. Partial loads and stores touch nothing beyond the elements that they name.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

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
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)m.v, (__m512i)m.v) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)m.v, (__m256i)m.v);
#elif defined(__x86_64__)
  return _mm_movemask_epi8((__m128i)m.v) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)m.v) != 0;
#else
  std::int64_t words[register_bytes / 8];
  std::memcpy(words, &m.v, sizeof words);
  std::int64_t all = 0;
  for (std::int64_t w : words) all |= w;
  return all != 0;
#endif
}

// Whether a < b in any lane.
template <class T>
inline bool any_less(vec<T> a, vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, _CMP_LT_OQ) != 0;
  else return _mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, _CMP_LT_OQ) != 0;
#else
  return any(a < b);
#endif
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
#elif defined(__AVX2__)
  using native = typename vec<T>::native;
  const mask<T> wanted = iota<int_of<T>>() < vec<int_of<T>>(int_of<T>(n));
  if constexpr (std::is_same_v<T, float>)
    return select<T>(wanted, native(_mm256_maskload_ps(p, (__m256i)wanted.v)), fill);
  if constexpr (std::is_same_v<T, double>)
    return select<T>(wanted, native(_mm256_maskload_pd(p, (__m256i)wanted.v)), fill);
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

// Past the caches, for memory too large to be found there again: saves reading the lines first. `p`
// on a multiple of the register's bytes.
template <class T>
inline void store_stream(T* p, vec<T> x) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)x.v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)x.v);
#elif defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)x.v);
#else
  store<T>(p, x);
#endif
}

// The elements from p on to a multiple of the register's bytes.
template <class T>
inline std::ptrdiff_t elements_to_register(const T* p) {
  return std::ptrdiff_t((0 - reinterpret_cast<std::uintptr_t>(p)) % register_bytes / sizeof(T));
}

template <class T>
inline void copy_stream(T* to, const T* from, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  std::ptrdiff_t i = std::min(n, elements_to_register(to));
  std::memcpy(to, from, i * sizeof(T));
  for (; i + w <= n; i += w) store_stream<T>(to + i, load<T>(from + i));
  std::memcpy(to + i, from + i, (n - i) * sizeof(T));
}

// After the last of them, before another thread reads what was streamed.
inline void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Whether a call that reads and writes so many bytes streams its output. Measured: from 64 MiB on
// it takes 0.75 of the time; below, the output is better left in the last cache.
inline bool worth_streaming(std::ptrdiff_t bytes) { return bytes >= std::ptrdiff_t(1) << 26; }

// How many bytes ahead a call that touches so many in all asks for its operands: the processor by
// itself does not look beyond a page. Measured beyond the caches: 0.6 to 0.9 of the time.
inline std::ptrdiff_t bytes_ahead(std::ptrdiff_t bytes) { return bytes >= 1 << 22 ? 2048 : 0; }

template <class T>
inline void prefetch(const T* p, std::ptrdiff_t ahead) {
  // Of an address, since a pointer must not leave its array.
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + ahead));
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

// ---- lanes between registers --------------------------------------------------------------------

// a0 b0 a1 b1 ... of the lower halves or of the upper ones.
template <bool Upper, class T, std::size_t... I>
inline vec<T> interleave(vec<T> a, vec<T> b, std::index_sequence<I...>) {
  constexpr int w = sizeof...(I), first = Upper ? w / 2 : 0;
  return __builtin_shufflevector(a.v, b.v, (int(I) % 2 * w + int(I) / 2 + first)...);
}

// Lane j of x[i] and lane i of x[j] change places. Inlined, or the registers would go through
// memory.
template <class T, std::ptrdiff_t Done = 1>
__attribute__((always_inline)) inline void transpose(vec<T> (&x)[vec<T>::size]) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  if constexpr (Done < w) {
    constexpr auto lanes = std::make_index_sequence<w>();
    vec<T> y[w];
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w / 2; ++i) {
      y[2 * i] = interleave<false>(x[i], x[i + w / 2], lanes);
      y[2 * i + 1] = interleave<true>(x[i], x[i + w / 2], lanes);
    }
    transpose<T, 2 * Done>(y);
#pragma GCC unroll 16
    for (std::ptrdiff_t i = 0; i < w; ++i) x[i] = y[i];
  }
}

// ---- operations that the vector extensions lack -------------------------------------------------

#if defined(__FMA__) || defined(__aarch64__)
inline constexpr bool has_fma = true;
#else
inline constexpr bool has_fma = false;
#endif

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

// 1 / x for normal x, to 0.6 ULP. A division of floats keeps the 64-byte unit busy for ten cycles,
// the estimate with a Newton step for three.
template <class T>
inline vec<T> reciprocal(vec<T> x) {
  const vec<T> one = T(1);
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    const vec<T> y = typename vec<T>::native(_mm512_maskz_rcp14_ps(0xffff, (__m512)x.v));
    return fma<T>(y, fma<T>(-x, y, one), y);
  }
#endif
  return one / x;
}

#if defined(__AVX512F__)
// Of the fast and the exact results of an operation the fast ones where x is usual: neither it nor
// its reciprocal near overflow. Lane by lane, so that no element's bits depend on those beside it;
// `exact` is called where it is needed.
template <class T, class Exact>
inline vec<T> where_usual(vec<T> x, vec<T> fast, const Exact& exact) {
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
#endif

// x / y: with an estimate of the reciprocal where that is faster, and then to 1 ULP. Divisions of
// doubles keep the 64-byte unit busy for sixteen cycles, the estimate with its steps for six.
template <class T>
inline vec<T> quotient(vec<T> x, vec<T> y) {
#if defined(__AVX512F__)
  const auto exact = [&] { return x / y; };
  if constexpr (std::is_same_v<T, float>) {
    return where_usual<T>(y, x * reciprocal<T>(y), exact);
  } else {
    const vec<T> one = T(1);
    const vec<T> rough = typename vec<T>::native(_mm512_maskz_rcp14_pd(0xff, (__m512d)y.v));
    const vec<T> e = fma<T>(-y, rough, one), inverse = fma<T>(rough, fma<T>(e, e, e), rough);
    const vec<T> q = x * inverse;
    return where_usual<T>(y, fma<T>(fma<T>(-y, q, x), inverse, q), exact);
  }
#endif
  return x / y;
}

// The square root of what is not negative, likewise: a root of floats keeps the 64-byte unit busy
// for nineteen cycles, the estimate with a Newton step for six; of doubles for 32 and nine.
template <class T>
inline vec<T> root(vec<T> x) {
#if defined(__AVX512F__)
  const vec<T> half = T(0.5);
  const auto exact = [&] { return sqrt(x); };
  if constexpr (std::is_same_v<T, float>) {
    const vec<T> y = typename vec<T>::native(_mm512_maskz_rsqrt14_ps(0xffff, (__m512)x.v));
    const vec<T> r = x * y;
    return where_usual<T>(x, fma<T>(fma<T>(-r, r, x), half * y, r), exact);
  } else {
    // Goldschmidt's steps: g nears the root, h half of its reciprocal.
    const vec<T> y = typename vec<T>::native(_mm512_maskz_rsqrt14_pd(0xff, (__m512d)x.v));
    vec<T> g = x * y, h = half * y;
    const vec<T> e = fma<T>(-g, h, half);
    g = fma<T>(g, e, g), h = fma<T>(h, e, h);
    g = fma<T>(g, fma<T>(-g, h, half), g);
    return where_usual<T>(x, fma<T>(fma<T>(-g, g, x), h, g), exact);
  }
#endif
  return sqrt(x);
}

// While it lives, this thread takes subnormal numbers for 0: x86 computes with them a hundred times
// as slowly as with others, and gradients of a network that has learned its data are full of them.
class flush_subnormals {
 public:
#if defined(__x86_64__)
  flush_subnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~flush_subnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  flush_subnormals() {}
#endif
 public:
  flush_subnormals(const flush_subnormals&) = delete;
};

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

// a unless b is greater. A NaN in b is passed over, a NaN in a stays. (x86's instructions mean just
// this, but GCC makes a comparison and a blend of the selection.)
template <class T>
inline vec<T> max(vec<T> a, vec<T> b) {
  using native [[maybe_unused]] = typename vec<T>::native;
  [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (is_float) return native(_mm512_maskz_max_ps(0xffff, (__m512)b.v, (__m512)a.v));
  else return native(_mm512_maskz_max_pd(0xff, (__m512d)b.v, (__m512d)a.v));
#elif defined(__AVX2__)
  if constexpr (is_float) return native(_mm256_max_ps((__m256)b.v, (__m256)a.v));
  else return native(_mm256_max_pd((__m256d)b.v, (__m256d)a.v));
#elif defined(__x86_64__)
  if constexpr (is_float) return native(_mm_max_ps((__m128)b.v, (__m128)a.v));
  else return native(_mm_max_pd((__m128d)b.v, (__m128d)a.v));
#else
  return select<T>(b > a, b, a);
#endif
}

// a unless b is less, likewise.
template <class T>
inline vec<T> min(vec<T> a, vec<T> b) {
  using native [[maybe_unused]] = typename vec<T>::native;
  [[maybe_unused]] constexpr bool is_float = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (is_float) return native(_mm512_maskz_min_ps(0xffff, (__m512)b.v, (__m512)a.v));
  else return native(_mm512_maskz_min_pd(0xff, (__m512d)b.v, (__m512d)a.v));
#elif defined(__AVX2__)
  if constexpr (is_float) return native(_mm256_min_ps((__m256)b.v, (__m256)a.v));
  else return native(_mm256_min_pd((__m256d)b.v, (__m256d)a.v));
#elif defined(__x86_64__)
  if constexpr (is_float) return native(_mm_min_ps((__m128)b.v, (__m128)a.v));
  else return native(_mm_min_pd((__m128d)b.v, (__m128d)a.v));
#else
  return select<T>(b < a, b, a);
#endif
}

template <class T>
inline constexpr int_of<T> sign_bit = std::numeric_limits<int_of<T>>::min();

template <class T>
inline vec<T> abs(vec<T> x) {
  return bit_cast<T>(bit_cast<int_of<T>>(x) & vec<int_of<T>>(int_of<T>(~sign_bit<T>)));
}

template <class T>
inline vec<T> negative_abs(vec<T> x) {
  return bit_cast<T>(bit_cast<int_of<T>>(x) | vec<int_of<T>>(sign_bit<T>));
}

// |magnitude| with the sign of `sign`; magnitude must not be negative.
template <class T>
inline vec<T> copy_sign(vec<T> magnitude, vec<T> sign) {
  using I = int_of<T>;
  return bit_cast<T>(bit_cast<I>(magnitude) | (bit_cast<I>(sign) & vec<I>(sign_bit<T>)));
}

// ---- reductions ---------------------------------------------------------------------------------

// The lanes, with those `Step` apart in each other's place.
template <std::size_t Step, class T, std::size_t... I>
inline vec<T> exchange(vec<T> x, std::index_sequence<I...>) {
  return __builtin_shufflevector(x.v, x.v, int(I ^ Step)...);
}

// Combines the lanes in a fixed tree: all lanes of the result hold it.
template <class T, class F, std::size_t Step = vec<T>::size / 2>
inline vec<T> fold(vec<T> x, const F& f) {
  if constexpr (Step == 0) return x;
  else
    return fold<T, F, Step / 2>(f(x, exchange<Step>(x, std::make_index_sequence<vec<T>::size>())),
                                f);
}

template <class T>
inline T reduce_add(vec<T> x) {
  return fold(x, [](vec<T> a, vec<T> b) { return a + b; }).v[0];
}

template <class T>
inline T reduce_max(vec<T> x) {
  return fold(x, [](vec<T> a, vec<T> b) { return max<T>(a, b); }).v[0];
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

// load and widen, store and narrow: halves from and to memory cost less than taking them apart.
template <class T>
inline vec<double> load_wide(const T* p, [[maybe_unused]] int part) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return vec<double>::native(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p + 8 * part)));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return vec<double>::native(_mm256_cvtps_pd(_mm_loadu_ps(p + 4 * part)));
#endif
  return widen(load<T>(p), part);
}

template <class T>
inline void store_narrow(T* p, const vec<double> (&x)[wide_parts<T>]) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    for (int part = 0; part < 2; ++part)
      _mm256_storeu_ps(p + 8 * part, _mm512_maskz_cvtpd_ps(0xff, (__m512d)x[part].v));
    return;
  }
#endif
  if constexpr (wide_parts<T> == 1) store<T>(p, x[0]);
  else store<T>(p, narrow(x[0], x[1]));
}

// The integers of the register(s), as wide as T: the low bits.
template <std::size_t... I>
inline vec<std::int32_t> join_low(vec<std::int64_t> low, vec<std::int64_t> high,
                                  std::index_sequence<I...>) {
  typedef std::int32_t half __attribute__((vector_size(register_bytes / 2)));
  const half l = __builtin_convertvector(low.v, half), h = __builtin_convertvector(high.v, half);
  return __builtin_shufflevector(l, h, int(I)...);
}

template <class T>
inline vec<int_of<T>> narrow_lanes(const vec<std::int64_t> (&x)[wide_parts<T>]) {
  if constexpr (wide_parts<T> == 1) return x[0];
  else return join_low(x[0], x[1], std::make_index_sequence<vec<T>::size>());
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

  block_sum() = default;
  // By registers: compilers copy in smaller pieces, for which the loads that follow have to wait.
  block_sum(const block_sum& s) { *this = s; }
  block_sum& operator=(const block_sum& s) {
    for (int i = 0; i < wide_parts<T>; ++i) flushed.parts[i] = s.flushed.parts[i];
    open = s.open;
    count = s.count;
    return *this;
  }

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
