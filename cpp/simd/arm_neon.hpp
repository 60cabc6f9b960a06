// AArch64.
#pragma once

#include <arm_neon.h>

#include "simd/generic.hpp"

namespace dlcore {

struct neon_set : generic_operations<neon_set> {
  static constexpr int tile_rows = 12;

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

  template <class T>
  static bool any(vec<T> m) {
    return vmaxvq_u32((uint32x4_t)m.v) != 0;
  }

  static constexpr bool has_fma = true;
  template <class T>
  static vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>)
      return native(vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v));
    else return native(vfmaq_f64((float64x2_t)c.v, (float64x2_t)a.v, (float64x2_t)b.v));
  }
  template <class T>
  static vec<T> sqrt(vec<T> x) {
    using native = typename vec<T>::native;
    if constexpr (std::is_same_v<T, float>) return native(vsqrtq_f32((float32x4_t)x.v));
    else return native(vsqrtq_f64((float64x2_t)x.v));
  }
};

}  // namespace dlcore
