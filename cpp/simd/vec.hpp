// The operations on vec<T> that the vector extensions lack: multiply-add, square root, loads and
// stores of a part of a register, and others. Intrinsics stand in the files of the instruction sets
// and nowhere else.
#pragma once

#include "simd/register.hpp"
#if defined(__AVX512F__)
#include "simd/x86_avx512.hpp"
#elif defined(__AVX2__)
#include "simd/x86_avx2.hpp"
#elif defined(DLCORE_REPRODUCIBLE)
#include "simd/reproducible.hpp"
#elif defined(__x86_64__)
#include "simd/x86_sse2.hpp"
#elif defined(__aarch64__)
#include "simd/arm_neon.hpp"
#else
#include "simd/generic.hpp"
#endif

namespace dlcore {

#if defined(__AVX512F__)
using instruction_set = avx512_set;
#elif defined(__AVX2__)
using instruction_set = avx2_set;
#elif defined(DLCORE_REPRODUCIBLE)
using instruction_set = reproducible_set;
#elif defined(__x86_64__)
using instruction_set = sse2_set;
#elif defined(__aarch64__)
using instruction_set = neon_set;
#else
using instruction_set = generic_set;
#endif

template <class T>
inline bool any(vec<T> m) {
  return instruction_set::any<T>(m);
}

// The lanes of a mask as bits, the first one lowest; a bit for each lane, and a mask of the lowest
// bits.
template <class I>
inline std::uint32_t bits_of_lanes(vec<I> m) {
  return instruction_set::bits_of_lanes<I>(m);
}
template <class I>
inline vec<I> lane_bits() {
  vec<I> own;
  for (std::ptrdiff_t i = 0; i < vec<I>::size; ++i) own.v[i] = I(1) << i;
  return own;
}
template <class I>
inline vec<I> lanes_of_bits(std::uint32_t bits) {
  const vec<I> own = lane_bits<I>();
  return (vec<I>(I(bits)) & own) == own;
}

// Whether a >= b in all lanes; false where there is a NaN.
template <class T>
inline bool all_at_least(vec<T> a, vec<T> b) {
  return instruction_set::all_at_least<T>(a, b);
}

// ---- loads and stores -------------------------------------------------------------------------

// The first n elements, 0 <= n < size; the other lanes are `fill`. Nothing beyond them is touched.
template <class T>
inline vec<T> load_part(const T* p, std::ptrdiff_t n, T fill = T(0)) {
  return instruction_set::load_part<T>(p, n, fill);
}

template <class T>
inline void store_part(T* p, vec<T> x, std::ptrdiff_t n) {
  instruction_set::store_part<T>(p, x, n);
}

// The next register of n elements that are left: all of it, or as many as there are.
template <class T>
inline vec<T> load_up_to(const T* p, std::ptrdiff_t n) {
  return n >= vec<T>::size ? load<T>(p) : load_part<T>(p, n);
}

template <class T>
inline void store_up_to(T* p, vec<T> x, std::ptrdiff_t n) {
  if (n >= vec<T>::size) store<T>(p, x);
  else store_part<T>(p, x, n);
}

// Past the caches, for memory too large to be found there again: saves reading the lines first. `p`
// on a multiple of the register's bytes.
template <class T>
inline void store_stream(T* p, vec<T> x) {
  instruction_set::store_stream<T>(p, x);
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
inline void stream_fence() { instruction_set::stream_fence(); }

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
  return instruction_set::gather_lanes<T>(base, offset);
}

// ---- lanes between registers --------------------------------------------------------------------

// a0 b0 a1 b1 ... of the lower halves or of the upper ones of each run of N lanes.
template <bool Upper, std::size_t N, class T, std::size_t... I>
inline vec<T> interleave(vec<T> a, vec<T> b, std::index_sequence<I...>) {
  constexpr int w = sizeof...(I), first = Upper ? N / 2 : 0;
  return __builtin_shufflevector(a.v, b.v,
                                 (int(I) % 2 * w + int(I / N * N) + int(I % N) / 2 + first)...);
}

// Within each run of N lanes, lane j of x[i] and lane i of x[j] change places. Inlined, or the
// registers would go through memory.
template <class T, std::size_t N, std::size_t Done = 1>
__attribute__((always_inline)) inline void transpose(vec<T> (&x)[N]) {
  if constexpr (Done < N) {
    constexpr auto lanes = std::make_index_sequence<vec<T>::size>();
    vec<T> y[N];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < N / 2; ++i) {
      y[2 * i] = interleave<false, N>(x[i], x[i + N / 2], lanes);
      y[2 * i + 1] = interleave<true, N>(x[i], x[i + N / 2], lanes);
    }
    transpose<T, N, 2 * Done>(y);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < N; ++i) x[i] = y[i];
  }
}

// ---- arithmetic ---------------------------------------------------------------------------------

inline constexpr bool has_fma = instruction_set::has_fma;

// a * b + c, rounded once where the instruction set can, twice where it can't (x86-64, generic).
template <class T>
inline vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
  return instruction_set::fma<T>(a, b, c);
}

template <class T>
inline vec<T> sqrt(vec<T> x) {
  return instruction_set::sqrt<T>(x);
}

// 1 / x for normal x, to 0.6 ULP.
template <class T>
inline vec<T> reciprocal(vec<T> x) {
  return instruction_set::reciprocal<T>(x);
}

// x / y, exact or, where an estimate of the reciprocal is faster, to 1 ULP.
template <class T>
inline vec<T> quotient(vec<T> x, vec<T> y) {
  return instruction_set::quotient<T>(x, y);
}

// The square root of what is not negative, likewise.
template <class T>
inline vec<T> root(vec<T> x) {
  return instruction_set::root<T>(x);
}

// The modes of floating-point arithmetic of this thread: rounding, traps, subnormal numbers.
inline unsigned control_word() { return instruction_set::control_word(); }

// While it lives, this thread computes in these modes.
class control_word_scope {
 public:
  explicit control_word_scope(unsigned word) : before_(control_word()), is_other_(word != before_) {
    if (is_other_) instruction_set::set_control_word(word);
  }
  control_word_scope(const control_word_scope&) = delete;
  ~control_word_scope() {
    if (is_other_) instruction_set::set_control_word(before_);
  }

 private:
  unsigned before_;
  bool is_other_;
};

// Whether a thread can be told to take subnormal numbers for 0, and whether this one does.
inline constexpr bool can_flush_subnormals = instruction_set::flushing != 0;
inline bool flushes_subnormals() {
  return can_flush_subnormals &&
         (control_word() & instruction_set::flushing) == instruction_set::flushing;
}

// While it lives, this thread takes subnormal numbers for 0: x86 computes with them a hundred times
// as slowly as with others, and gradients of a network that has learned its data are full of them.
struct flush_subnormals : control_word_scope {
  flush_subnormals() : control_word_scope(control_word() | instruction_set::flushing) {}
};

// While it lives, this thread computes with them.
struct keep_subnormals : control_word_scope {
  keep_subnormals() : control_word_scope(control_word() & ~instruction_set::flushing) {}
};

// x 2^n for integers n held as floating numbers, rounded once: one instruction where there is one.
template <class T>
inline constexpr bool has_scale = instruction_set::has_scale;

template <class T>
inline vec<T> scale(vec<T> x, vec<T> n) {
  static_assert(has_scale<T>);
  return instruction_set::scale<T>(x, n);
}

// a unless b is greater. A NaN in b is passed over, a NaN in a stays.
template <class T>
inline vec<T> max(vec<T> a, vec<T> b) {
  return instruction_set::max<T>(a, b);
}

// a unless b is less, likewise.
template <class T>
inline vec<T> min(vec<T> a, vec<T> b) {
  return instruction_set::min<T>(a, b);
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

template <class T>
inline T reduce_min(vec<T> x) {
  return fold(x, [](vec<T> a, vec<T> b) { return min<T>(a, b); }).v[0];
}

// ---- wider and narrower elements ----------------------------------------------------------------

// One register of T as doubles: `part` 0 or, for float, 0 and 1.
template <class T>
inline constexpr int wide_parts = sizeof(double) / sizeof(T);

template <class T>
inline vec<double> widen(vec<T> x, [[maybe_unused]] int part) {
  if constexpr (std::is_same_v<T, double>) return x;
  else return instruction_set::widen(x, part);
}

// The inverse of widen.
inline vec<float> narrow(vec<double> low, vec<double> high) {
  return instruction_set::narrow(low, high);
}

// load and widen, store and narrow: halves from and to memory cost less than taking them apart.
template <class T>
inline vec<double> load_wide(const T* p, [[maybe_unused]] int part) {
  if constexpr (std::is_same_v<T, double>) return load<T>(p);
  else return instruction_set::load_wide(p, part);
}

template <class T>
inline void store_narrow(T* p, const vec<double> (&x)[wide_parts<T>]) {
  if constexpr (wide_parts<T> == 1) store<T>(p, x[0]);
  else instruction_set::store_narrow(p, x[0], x[1]);
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

}  // namespace dlcore
