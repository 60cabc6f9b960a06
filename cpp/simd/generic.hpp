// The operations that the vector extensions lack, in plain C++. Instruction sets inherit them and
// hide what they do otherwise; vec.hpp says what each of them means.
#pragma once

#include "simd/register.hpp"

namespace dlcore {

// `Set`: the instruction set that inherits.
template <class Set>
struct generic_operations {
  // Rows of a product's tile that the registers hold, with room for a row of B and an element of A.
  static constexpr int tile_rows = 6;

  template <class T>
  static bool any(vec<T> m) {
    std::int64_t words[register_bytes / 8];
    std::memcpy(words, &m.v, sizeof words);
    std::int64_t all = 0;
    for (const std::int64_t w : words) all |= w;
    return all != 0;
  }

  template <class I>
  static std::uint32_t bits_of_lanes(vec<I> m) {
    std::uint32_t bits = 0;
    for (std::ptrdiff_t i = 0; i < vec<I>::size; ++i) bits |= std::uint32_t(m.v[i] < 0) << i;
    return bits;
  }

  template <class T>
  static bool all_at_least(vec<T> a, vec<T> b) {
    return !Set::any(~(a >= b));
  }

  template <class T>
  static vec<T> load_part(const T* p, std::ptrdiff_t n, T fill) {
    vec<T> r(fill);
    for (std::ptrdiff_t i = 0; i < vec<T>::size - 1; ++i)
      if (i < n) r.v[i] = p[i];
    return r;
  }
  template <class T>
  static void store_part(T* p, vec<T> x, std::ptrdiff_t n) {
    // To a constant: a loop to n is a copy to GCC 16, which warns of an n below 0.
    for (std::ptrdiff_t i = 0; i < vec<T>::size - 1; ++i)
      if (i < n) p[i] = x.v[i];
  }
  template <class T>
  static void store_stream(T* p, vec<T> x) {
    store<T>(p, x);
  }
  static void stream_fence() {}
  template <class T>
  static vec<T> gather_lanes(const void* base, vec<int_of<T>> offset) {
    vec<T> r;
    for (std::ptrdiff_t k = 0; k < vec<T>::size; ++k) {
      T value;
      std::memcpy(&value, static_cast<const char*>(base) + offset.v[k], sizeof value);
      r.v[k] = value;
    }
    return r;
  }

  static constexpr bool has_fma = false;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    return a * b + c;
  }
  template <class T>
  static vec<T> sqrt(vec<T> x) {
    vec<T> r;
    for (std::ptrdiff_t i = 0; i < vec<T>::size; ++i) r.v[i] = std::sqrt(x.v[i]);
    return r;
  }

  template <class T>
  static vec<T> reciprocal(vec<T> x) {
    return vec<T>(T(1)) / x;
  }
  template <class T>
  static vec<T> quotient(vec<T> x, vec<T> y) {
    return x / y;
  }
  template <class T>
  static vec<T> root(vec<T> x) {
    return Set::template sqrt<T>(x);
  }

  static constexpr bool has_scale = false;
  template <class T>
  static vec<T> scale(vec<T> x, vec<T> n);
  template <class T>
  static vec<T> max(vec<T> a, vec<T> b) {
    return select<T>(b > a, b, a);
  }
  template <class T>
  static vec<T> min(vec<T> a, vec<T> b) {
    return select<T>(b < a, b, a);
  }

  typedef float half_register __attribute__((vector_size(register_bytes / 2)));
  static vec<double> widen(vec<float> x, int part) {
    half_register h[2];
    std::memcpy(&h, &x.v, sizeof h);
    return __builtin_convertvector(h[part], vec<double>::native);
  }
  static vec<float> narrow(vec<double> low, vec<double> high) {
    const half_register h[2] = {__builtin_convertvector(low.v, half_register),
                                __builtin_convertvector(high.v, half_register)};
    vec<float> r;
    std::memcpy(&r.v, h, sizeof r.v);
    return r;
  }

  static vec<double> load_wide(const float* p, int part) {
    return Set::widen(load<float>(p), part);
  }
  static void store_narrow(float* p, vec<double> low, vec<double> high) {
    store<float>(p, Set::narrow(low, high));
  }

  // The processor's modes of floating-point arithmetic, and those bits of them that make it take
  // subnormal numbers for 0; where nothing is known of them, nothing is changed.
  static constexpr unsigned flushing = 0;
  static unsigned control_word() { return 0; }
  static void set_control_word(unsigned) {}
};

struct generic_set : generic_operations<generic_set> {};

}  // namespace dlcore
