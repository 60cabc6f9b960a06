#include "network/clip_norm.hpp"

#include <cmath>
#include <type_traits>

#include "kernels/gradient_norm.hpp"
#include "network/losses.hpp"

namespace dlcore {

namespace {

// Of floats squares are exact in double.
struct plain_sum {
  vec<double> sum = 0.0;

  void add(vec<double> x) { sum += x; }
  void end(pair_sum<double>& total) const { total.add(reduce_add(sum)); }
};

struct kept_sum : pair_sum<vec<double>> {
  void end(pair_sum<double>& total) const {
    for (std::ptrdiff_t i = 0; i < vec<double>::size; ++i) total.add({sum.v[i], low.v[i]});
  }
};

}  // namespace

template <class T>
pair_sum<double> squares_of_gradient(const T* gradient, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  constexpr int chains = 2;  // registers in flight, each of wide_parts sums
  std::conditional_t<std::is_same_v<T, double>, kept_sum, plain_sum> sums[chains][wide_parts<T>];
  const auto add = [&](int chain, vec<T> g) {
    for (int part = 0; part < wide_parts<T>; ++part) {
      const vec<double> d = widen(g, part);
      sums[chain][part].add(d * d);
    }
  };
  std::ptrdiff_t i = 0;
  for (; i + chains * w <= n; i += chains * w)
#pragma GCC unroll 2
    for (int chain = 0; chain < chains; ++chain) add(chain, load<T>(gradient + i + chain * w));
  for (; i + w <= n; i += w) add(0, load<T>(gradient + i));
  if (i < n) add(0, load_part<T>(gradient + i, n - i));
  pair_sum<double> total;
  for (const auto& chain : sums)
    for (const auto& sum : chain) sum.end(total);
  return total;
}

template <class T>
double clip_factor(const std::vector<pair_sum<double>>& squares,
                   const std::vector<gradient_run<T>>& gradients, double max_norm) {
  pair_sum<double> total;
  for (const pair_sum<double>& part : squares) total.add(part);
  scaled_norm norm{std::sqrt(total.value()), 1};
  // Otherwise squares may have vanished or overflowed.
  if (!(total.value() > 0x1p-900 && std::isfinite(total.value()))) {
    const auto run = [&](std::ptrdiff_t i) {
      return float_view{view_of_run(gradients[i].first, gradients[i].size), sizeof(T) == 8};
    };
    norm = norm_of(std::ptrdiff_t(gradients.size()), run, 2, parallel_for);
  }
  double factor = norm.limited_to(max_norm);
  for (; factor > 0 && factor < 0x1p-100; factor *= 0x1p64)
    for (const gradient_run<T>& run : gradients)
      for (std::ptrdiff_t i = 0; i < run.size; ++i) run.first[i] *= T(0x1p-64);
  return factor;
}

template pair_sum<double> squares_of_gradient(const float*, std::ptrdiff_t);
template pair_sum<double> squares_of_gradient(const double*, std::ptrdiff_t);
template double clip_factor(const std::vector<pair_sum<double>>&,
                            const std::vector<gradient_run<float>>&, double);
template double clip_factor(const std::vector<pair_sum<double>>&,
                            const std::vector<gradient_run<double>>&, double);

}  // namespace dlcore
