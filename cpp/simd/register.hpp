// vec<T>: one register of the instruction set that this file is compiled for, as a vector of GCC's
// and Clang's extensions, which give arithmetic, comparison and selection.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace dlcore {

#if defined(__AVX512F__)
inline constexpr std::ptrdiff_t register_bytes = 64;
#elif defined(__AVX2__) || defined(DLCORE_REPRODUCIBLE)
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
// Of these products and shifts are as of std::uint32_t: modulo 2^32, and without a sign.
template <>
struct native_of<std::uint32_t> {
  typedef std::uint32_t type __attribute__((vector_size(register_bytes)));
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
inline vec<T> load(const T* p) {
  vec<T> r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}

template <class T>
inline void store(T* p, vec<T> x) {
  std::memcpy(p, &x.v, sizeof x.v);
}

}  // namespace dlcore
