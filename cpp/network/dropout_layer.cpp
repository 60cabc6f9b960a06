#include "network/dropout_layer.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"

namespace dlcore {

namespace {

// Mixes the bits of 32-bit numbers: each of them flips half of the others (Prospector's
// lowbias32).
using bits = vec<std::int32_t>;
template <int N>
bits shift(bits x) {  // the sign does not come along
  return (x >> N) & bits(std::int32_t((1u << (32 - N)) - 1));
}
// The product modulo 2^32: that of signed numbers would overflow.
bits times(bits x, std::uint32_t factor) {
  typedef std::uint32_t words __attribute__((vector_size(register_bytes)));
  return (bits::native)((words)x.v * factor);
}
bits mix(bits x) {
  x = x ^ shift<16>(x);
  x = times(x, 0x7feb352du);
  x = x ^ shift<15>(x);
  x = times(x, 0x846ca68bu);
  return x ^ shift<16>(x);
}
std::uint64_t mix64(std::uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

template <class T>
dropout_layer<T>::dropout_layer(const dropout_spec& spec)
    : layer<T>(spec.features, spec.features), p_(spec.p), stream_(spec.stream) {
  this->cost = nanoseconds<T>(0.4, this->in);
  this->forward_growth = this->backward_growth = {p_ < 1 ? 1 / (1 - p_) : 1, 0};
}

template <class T>
void dropout_layer<T>::forward(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  if (p.training) return drop(x, y, p);
  for (std::ptrdiff_t r = 0; r < p.n; ++r) std::copy(x.row(r), x.row(r) + this->in, y.row(r));
}

template <class T>
void dropout_layer<T>::backward(rows_of<const T> dy, rows_of<const T>, rows_of<T> dx,
                                const pass& p) const {
  drop(dy, dx, p);
}

template <class T>
void dropout_layer<T>::drop(rows_of<const T> x, rows_of<T> y, const pass& p) const {
  constexpr std::ptrdiff_t w = bits::size;
  // At p = 1 nothing is kept; inf would make NaN of 0.
  const T kept = p_ < 1 ? T(1 / (1 - p_)) : T(0);
  // Kept where the number, uniform in [-2^31, 2^31), is not below this.
  const double bound = p_ * 4294967296.0 - 2147483648.0;
  const bool none = bound > 2147483647.0;
  const bits least = std::int32_t(none ? 2147483647.0 : bound);
  for (std::ptrdiff_t r = 0; r < p.n; ++r) {
    const std::uint64_t key = mix64(mix64(p.key + stream_) + std::uint64_t(p.begin + r));
    const bits a = std::int32_t(std::uint32_t(key)), b = std::int32_t(std::uint32_t(key >> 32));
    const T* from = x.row(r);
    T* to = y.row(r);
    for (std::ptrdiff_t j = 0; j < this->in; j += w) {
      const bits at = iota<std::int32_t>() + bits(std::int32_t(j));
      const bits drawn = mix(mix(at ^ a) ^ b);
      std::int32_t keep[w];
      store(keep, drawn >= least);
      const std::ptrdiff_t n = std::min(w, this->in - j);
      for (std::ptrdiff_t i = 0; i < n; ++i)
        to[j + i] = keep[i] && !none ? from[j + i] * kept : T(0);
    }
  }
}

template class dropout_layer<float>;
template class dropout_layer<double>;

}  // namespace dlcore
