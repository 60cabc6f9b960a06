// Applies a function of registers to whole arrays: one loop for every elementwise kernel.
#pragma once

#include <array>
#include <utility>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"
#include "simd/vec.hpp"

namespace dlcore {

// The most elements in a chunk of parallel work, and those in a tile that fits the first cache with
// its operands.
inline constexpr std::ptrdiff_t chunk_elements = 8192;
inline constexpr std::ptrdiff_t tile_elements = 512;
static_assert(chunk_elements % tile_elements == 0);

// Chunks of n elements: a function of n alone, so that sums over them are, too.
struct element_chunks {
  std::ptrdiff_t n, size;

  explicit element_chunks(std::ptrdiff_t n)
      : n(n), size(even_chunk(n, chunk_elements, tile_elements)) {}
  std::ptrdiff_t count() const { return ceil_div(n, size); }
  std::ptrdiff_t begin(std::ptrdiff_t chunk) const { return chunk * size; }
  std::ptrdiff_t end(std::ptrdiff_t chunk) const { return std::min(n, begin(chunk + 1)); }
};

// What n elements take on one thread, roughly, if an element in float takes `cost` nanoseconds.
template <class T>
inline double nanoseconds(double cost, std::ptrdiff_t n, bool direct = true) {
  return cost * double(sizeof(T) / sizeof(float)) * double(n) * (direct ? 1 : 3);
}

// Calls visit(register) for the elements of a chunk, in order; lanes beyond the end are 0.
template <class T, class F>
inline void visit_chunk(const sequence<T>& in, const element_chunks& chunks, std::ptrdiff_t chunk,
                        const F& visit) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  T buffer[tile_elements];
  const std::ptrdiff_t end = chunks.end(chunk);
  for (std::ptrdiff_t i = chunks.begin(chunk); i < end; i += tile_elements) {
    const std::ptrdiff_t m = std::min(tile_elements, end - i);
    const T* p = in.read(i, m, buffer);
    std::ptrdiff_t j = 0;
    for (; j + w <= m; j += w) visit(load<T>(p + j));
    if (j < m) visit(load_part<T>(p + j, m - j));
  }
}

// out[i] = f(in[i]...); an input may be the output. `ahead`: bytes_ahead.
template <class T, class F, class... In>
inline void map_run(const F& f, T* out, std::ptrdiff_t n, std::ptrdiff_t ahead, const In*... in) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) {
    if (ahead != 0) (prefetch(in + i, ahead), ...);
    store<T>(out + i, f(load<T>(in + i)...));
  }
  if (i < n) store_part<T>(out + i, f(load_part<T>(in + i, n - i)...), n - i);
}

// The same as a function that arrays call for their runs: f(out, n, ahead, the inputs).
template <class T>
using run_ref = function_ref<void(T*, std::ptrdiff_t, std::ptrdiff_t, const T* const*)>;

// y += x.
template <class T>
inline void add_run(const T* x, T* y, std::ptrdiff_t n) {
  map_run<T>([](vec<T> a, vec<T> b) { return a + b; }, y, n, 0, y, x);
}

// Applies f to arrays, on several threads where that pays. operands: the inputs, at most two of
// them, then the output; they are reordered. `cost`: nanoseconds an element of float, roughly.
template <class T>
void map_arrays(const run_ref<T>& f, views_of_shape operands, double cost);

}  // namespace dlcore
