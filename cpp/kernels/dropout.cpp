#include "kernels/dropout.hpp"

#include <algorithm>

#include "simd/vec.hpp"

namespace dlcore {

namespace {

using numbers = vec<std::uint32_t>;

// Each bit of x flips half of the upper bits, which decide, with a bias of some 0.2 %: Prospector's
// lowbias32 less its last step, which would mix the lower ones.
inline numbers mix(numbers x) {
  x = x ^ (x >> 16);
  x = x * numbers(0x7feb352du);
  x = x ^ (x >> 15);
  return x * numbers(0x846ca68bu);
}

std::uint64_t mix64(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t dropout_key(std::uint64_t step, std::uint64_t stream) { return mix64(step + stream); }

void draw_kept(std::uint64_t key, std::uint64_t row, double p, std::ptrdiff_t n,
               std::uint32_t* words) {
  constexpr std::ptrdiff_t w = numbers::size;
  const double dropped = p * 0x1p32;
  if (dropped >= 0x1p32) {
    std::fill_n(words, words_of(n), 0u);
    return;
  }
  // Numbers are compared as signed ones, which is one instruction: those from -2^31 on.
  const vec<std::int32_t> least = std::int32_t(std::int64_t(dropped) - (std::int64_t(1) << 31));
  const std::uint64_t own = mix64(key + row);
  const std::uint32_t start = std::uint32_t(own), step = std::uint32_t(own >> 32) | 1;
  numbers x = numbers(start) + iota<std::uint32_t>() * numbers(step);
  const numbers next = step * std::uint32_t(w);
  for (std::ptrdiff_t i = 0; i < words_of(n); ++i) {
    std::uint32_t word = 0;
#pragma GCC unroll 8
    for (std::ptrdiff_t k = 0; k < word_elements; k += w, x = x + next)
      word |= bits_of_lanes<std::int32_t>(bit_cast<std::int32_t>(mix(x)) < least) << k;
    words[i] = ~word;
  }
}

template <class T>
void keep_some(const std::uint32_t* words, const T* x, T* y, std::ptrdiff_t n, T factor) {
  using I = int_of<T>;
  constexpr std::ptrdiff_t w = vec<T>::size, registers = word_elements / w;
  const vec<T> scale = factor;
  // The bit of each lane, of all registers in a word.
  vec<I> own[registers];
#pragma GCC unroll 16
  for (std::ptrdiff_t k = 0; k < registers; ++k) own[k] = lane_bits<I>() << int(k * w);
  const auto kept = [&](std::uint32_t word, std::ptrdiff_t k, vec<T> v) {
    const vec<I> bits = vec<I>(I(word)) & own[k];
    return bit_cast<T>(bit_cast<I>(v * scale) & (bits == own[k]));
  };
  std::ptrdiff_t i = 0;
  for (; i + word_elements <= n; i += word_elements)
#pragma GCC unroll 8
    for (std::ptrdiff_t k = 0; k < registers; ++k)
      store<T>(y + i + k * w, kept(words[i / word_elements], k, load<T>(x + i + k * w)));
  for (std::ptrdiff_t k = 0; i < n; ++k, i += w) {
    const std::uint32_t word = words[i / word_elements];
    if (i + w <= n) store<T>(y + i, kept(word, k, load<T>(x + i)));
    else store_part<T>(y + i, kept(word, k, load_part<T>(x + i, n - i)), n - i);
  }
}

template void keep_some(const std::uint32_t*, const float*, float*, std::ptrdiff_t, float);
template void keep_some(const std::uint32_t*, const double*, double*, std::ptrdiff_t, double);

}  // namespace dlcore
