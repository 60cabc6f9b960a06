// AArch64.
#pragma once

#include <arm_neon.h>

#include "simd/generic.hpp"

namespace dlcore {

template <class T>
struct neon_of;
template <>
struct neon_of<float> {
  using type = float32x4_t;
};
template <>
struct neon_of<double> {
  using type = float64x2_t;
};

inline float32x4_t neon_fma(float32x4_t a, float32x4_t b, float32x4_t c) {
  return vfmaq_f32(c, a, b);
}
inline float64x2_t neon_fma(float64x2_t a, float64x2_t b, float64x2_t c) {
  return vfmaq_f64(c, a, b);
}

// What does not go by registers.
template <class Set>
struct arm_operations : generic_operations<Set> {
  // Flush to zero, of inputs and results.
  static constexpr unsigned flushing = 1u << 24;
  static unsigned control_word() {
    std::uint64_t word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return unsigned(word);
  }
  static void set_control_word(unsigned word) {
    asm volatile("msr fpcr, %0" : : "r"(std::uint64_t(word)));
  }
};

#if !defined(DLCORE_REPRODUCIBLE)

struct neon_set : arm_operations<neon_set> {
  static constexpr int tile_rows = 12;

  template <class T>
  static bool any(vec<T> m) {
    return vmaxvq_u32((uint32x4_t)m.v) != 0;
  }

  static constexpr bool has_fma = true;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    using neon = typename neon_of<T>::type;
    return typename vec<T>::native(neon_fma((neon)a.v, (neon)b.v, (neon)c.v));
  }
  template <class T>
  static vec<T> sqrt(vec<T> x) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(vsqrtq_f32((float32x4_t)x.v));
    else return native(vsqrtq_f64((float64x2_t)x.v));
  }
};

#endif

}  // namespace dlcore
