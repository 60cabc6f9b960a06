#include "kernels/gradient_norm.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/chunk_sums.hpp"
#include "kernels/reductions.hpp"

namespace dlcore {

namespace {

template <class F>
double dispatch(bool is_double, const F& f) {
  return is_double ? f(double{}) : f(float{});
}

template <class T>
double largest(std::array<view, 1> x, chunk_runner run) {
  collapse(x);
  const sequence<T> in(x[0]);
  const element_chunks chunks(x[0].size());
  std::vector<double> of_chunks(chunks.count());
  run(chunks.count(), nanoseconds<T>(0.2, chunks.n), [&](std::ptrdiff_t chunk) {
    vec<T> most = T(0), unordered = T(0);
    visit_chunk(in, chunks, chunk, [&](vec<T> v) {
      most = max<T>(most, abs(v));
      unordered = select<T>(v == v, unordered, v);
    });
    const bool has_nan = any(unordered != unordered);
    of_chunks[chunk] =
        has_nan ? std::numeric_limits<double>::quiet_NaN() : double(reduce_max<T>(most));
  });
  double result = 0;
  for (const double m : of_chunks) {
    if (std::isnan(m)) return m;
    result = std::max(result, m);
  }
  return result;
}

// The sum of (|x| * unit / mantissa)^p.
template <class T>
struct power_sum {
  double p, unit, mantissa;
  vec<double> sum = 0.0;

  bool is_power() const { return p != 1 && p != 2; }
  void add(vec<T> x) {
    for (int part = 0; part < wide_parts<T>; ++part) {
      vec<double> d = abs(widen(x, part)) * vec<double>(unit);
      if (p == 2) d *= d;
      for (std::ptrdiff_t lane = 0; is_power() && lane < vec<double>::size; ++lane)
        d.v[lane] = std::pow(d.v[lane] / mantissa, p);
      sum += d;
    }
  }
  double total() const { return reduce_add(sum); }
};

template <class T>
double sum_of_powers(std::array<view, 1> x, double p, double unit, double mantissa,
                     chunk_runner run) {
  const power_sum<T> empty{p, unit, mantissa};
  return sum_in_chunks<T>(x, empty.is_power() ? 20 : 0.2, run, empty);
}

}  // namespace

double scaled_norm::limited_to(double most) const {
  if (std::isinf(most)) return 1;
  const double norm = value();
  const bool is_too_large = std::isinf(norm) && std::isfinite(root);
  const double factor = is_too_large ? most / scale / root : most / (norm + 1e-6);
  return factor >= 1 ? 1 : factor;
}

scaled_norm norm_of(std::ptrdiff_t count, function_ref<float_view(std::ptrdiff_t)> array, double p,
                    chunk_runner run) {
  const auto sum = [&](const auto& of_array) {
    double total = 0;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const float_view a = array(i);
      total += dispatch(a.is_double,
                        [&](auto type) { return of_array(type, std::array<view, 1>{a.elements}); });
    }
    return total;
  };
  if (p == 2) {
    const double squares = sum([&](auto type, const std::array<view, 1>& x) {
      return sum_of_squares<decltype(type)>(x, run);
    });
    // Squares that vanished are of no weight beside such a sum.
    if (std::isnan(squares) || (squares > 0x1p-900 && std::isfinite(squares)))
      return {std::sqrt(squares), 1};
  }
  double most = 0;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const float_view a = array(i);
    const double own = dispatch(
        a.is_double, [&](auto type) { return largest<decltype(type)>({a.elements}, run); });
    if (std::isnan(own)) return {own, 1};
    most = std::max(most, own);
  }
  if (std::isinf(p) || std::isinf(most) || most == 0) return {most, 1};
  int exponent;
  std::frexp(most, &exponent);
  exponent = std::clamp(exponent, -1000, 1000);  // so that the unit is a normal number
  const double unit = std::ldexp(1.0, -exponent), scale = std::ldexp(1.0, exponent);
  // By the largest element itself where a high power of less than 1 would vanish.
  const double mantissa = most * unit;
  const double powers = sum([&](auto type, const std::array<view, 1>& x) {
    return sum_of_powers<decltype(type)>(x, p, unit, mantissa, run);
  });
  if (p == 1) return {powers, scale};
  if (p == 2) return {std::sqrt(powers), scale};
  return {std::pow(powers, 1 / p) * mantissa, scale};
}

}  // namespace dlcore
