// Dropout: which elements of a row are kept, as bits, and the row with them alone.
//
// The bits are a function of a key, the row and the element: a row has a start and an odd step of
// its own, made of the key by 64 bits of splitmix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, OOPSLA 2014), and element j the number
// mix(start + j step) modulo 2^32, of which those below p 2^32 are dropped. So they are the same
// for any blocks, threads and instruction sets; dlcore.reference._dropout has them in NumPy.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dlcore {

// Elements whose bits are in a word.
inline constexpr std::ptrdiff_t word_elements = 32;
inline std::ptrdiff_t words_of(std::ptrdiff_t elements) {
  return (elements + word_elements - 1) / word_elements;
}

// The key of a layer in a step.
std::uint64_t dropout_key(std::uint64_t step, std::uint64_t stream);
// Writes all words of a row of n elements, each of which is dropped with probability p.
void draw_kept(std::uint64_t key, std::uint64_t row, double p, std::ptrdiff_t n,
               std::uint32_t* words);

// y[i] = x[i] * factor where the bit is set, else 0, be x[i] infinite or NaN. y may be x.
template <class T>
void keep_some(const std::uint32_t* words, const T* x, T* y, std::ptrdiff_t n, T factor);

}  // namespace dlcore
