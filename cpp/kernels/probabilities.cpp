#include "kernels/probabilities.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/parallel.hpp"
#include "kernels/activations.hpp"
#include "kernels/softmax.hpp"

namespace dlcore {

namespace {

// The sum in the order in which NumPy adds: pairwise, eight sums side by side in runs of up to 128.
template <class T>
T pairwise_sum(const T* x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t sums = 8, run = 128;
  if (n > run) {
    const std::ptrdiff_t half = n / 2 - n / 2 % sums;
    return pairwise_sum(x, half) + pairwise_sum(x + half, n - half);
  }
  T total = 0;
  std::ptrdiff_t i = 0;
  if (n >= sums) {
    T s[sums];
    std::copy(x, x + sums, s);
    for (i = sums; i < n - n % sums; i += sums)
      for (std::ptrdiff_t k = 0; k < sums; ++k) s[k] += x[i + k];
    total = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
  for (; i < n; ++i) total += x[i];
  return total;
}

// Gives what is missing from 1 to the largest; once may be rounded away.
template <class T>
void complete(T* p, std::ptrdiff_t classes) {
  T missing = 1 - pairwise_sum(p, classes);
  if (missing == 0) return;
  T* largest = std::max_element(p, p + classes);
  *largest += missing;
  missing = 1 - pairwise_sum(p, classes);
  *largest += missing;
}

template <class T>
view rows_view(T* data, std::ptrdiff_t n, std::ptrdiff_t classes) {
  view v;
  v.data = reinterpret_cast<char*>(data);
  v.ndim = 1;
  v.shape[0] = n;
  v.strides[0] = classes * std::ptrdiff_t(sizeof(T));
  return v;
}

}  // namespace

template <class T>
void class_probabilities(T* rows, std::ptrdiff_t n, std::ptrdiff_t classes) {
  const row_view whole{rows_view(rows, n, classes), sizeof(T)};
  softmax<T>(row_shape{n, classes, true}, {whole, whole}, parallel_for);
  const std::ptrdiff_t chunk = std::max<std::ptrdiff_t>(1, 4096 / classes);
  parallel_for(ceil_div(n, chunk), 0.3 * double(n * classes), [&](std::ptrdiff_t c) {
    const std::ptrdiff_t end = std::min(n, (c + 1) * chunk);
    for (std::ptrdiff_t r = c * chunk; r < end; ++r) complete(rows + r * classes, classes);
  });
}

template <class T>
void binary_probabilities(const T* x, T* p, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t chunk = 512;
  const activation_spec sigmoid = with_standard_options(activation_kind::sigmoid);
  const auto forward = forward_of<T>(sigmoid.kind);
  parallel_for(ceil_div(n, chunk), 1.5 * double(n), [&](std::ptrdiff_t c) {
    T smaller[chunk];
    const T* from = x + c * chunk;
    T* to = p + 2 * c * chunk;
    const std::ptrdiff_t m = std::min(chunk, n - c * chunk);
    for (std::ptrdiff_t i = 0; i < m; ++i) smaller[i] = -std::abs(from[i]);
    forward(sigmoid.options, smaller, m, 0, smaller);
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      const T larger = 1 - smaller[i];
      const bool yes = from[i] > 0;
      to[2 * i] = yes ? smaller[i] : larger;
      to[2 * i + 1] = yes ? larger : smaller[i];
    }
  });
}

template void class_probabilities<float>(float*, std::ptrdiff_t, std::ptrdiff_t);
template void class_probabilities<double>(double*, std::ptrdiff_t, std::ptrdiff_t);
template void binary_probabilities<float>(const float*, float*, std::ptrdiff_t);
template void binary_probabilities<double>(const double*, double*, std::ptrdiff_t);

}  // namespace dlcore
