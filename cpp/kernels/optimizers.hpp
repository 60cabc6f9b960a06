// Fused in-place updates of parameters, one pass over memory: PyTorch's formulas, in T and in its
// order of operations, so that with multiply-add most steps have its bits.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/elementwise.hpp"

namespace dlcore {

// sign(p) max(|p| - threshold, 0): the proximal step of threshold |p|. NaN stays.
template <class T>
inline vec<T> soft_threshold(vec<T> p, double threshold) {
  const vec<T> shrunk = max<T>(abs(p) - vec<T>(T(threshold)), T(0));
  return copy_sign<T>(shrunk, p);
}

// views: parameter, gradient, [momentum buffer].
struct sgd {
  static constexpr double cost = 0.2;
  double lr, momentum, dampening, weight_decay, l1;
  bool nesterov, maximize;
  bool first;  // the buffer is still to be set

  template <class T>
  vec<T> gradient(vec<T> p, vec<T> g) const {
    if (maximize) g = -g;
    return weight_decay != 0 ? fma<T>(T(weight_decay), p, g) : g;
  }
  template <class T>
  vec<T> move(vec<T> p, vec<T> direction) const {
    p = fma<T>(T(-lr), direction, p);
    return l1 != 0 ? soft_threshold<T>(p, lr * l1) : p;
  }
  template <class T>
  void operator()(vec<T>& p, vec<T> g) const {
    p = move<T>(p, gradient<T>(p, g));
  }
  template <class T>
  void operator()(vec<T>& p, vec<T> g, vec<T>& buffer) const {
    g = gradient<T>(p, g);
    buffer = first ? g : fma<T>(T(1 - dampening), g, vec<T>(T(momentum)) * buffer);
    p = move<T>(p, nesterov ? fma<T>(T(momentum), buffer, g) : buffer);
  }
};

// x / c for a positive constant: with multiply-add the rounded quotient itself (Markstein: IA-64
// and Elementary Functions, 2000) for less than a division costs.
template <class T>
inline vec<T> divide_by(vec<T> x, T c, T inverse_of_c) {
  if constexpr (!has_fma) return x / vec<T>(c);
  const vec<T> inverse = inverse_of_c, quotient = x * inverse;
  const vec<T> rest = fma<T>(-vec<T>(c), quotient, x);
  // Of an infinite x the rest is NaN.
  return select<T>(rest == rest, fma<T>(rest, inverse, quotient), quotient);
}
template <class T>
inline vec<T> divide_by(vec<T> x, T c) {
  return divide_by<T>(x, c, T(1) / c);
}

// views: parameter, gradient, mean, mean of squares, [largest mean of squares].
struct adam {
  static constexpr double cost = 0.5;
  double lr, beta1, beta2, eps;
  double weight_decay, decoupled_decay;  // added to the gradient; by which parameters shrink
  double l1;
  bool maximize;
  bool raw_eps;  // eps is added to the root before its correction
  // lr / (1 - beta1^t), sqrt(1 - beta2^t), eps beside the corrected root
  double step_size = 0, root_correction = 0, least = 0;
  // Compared once: a comparison of doubles for each register takes one of two units from its sums.
  bool decays = false, shrinks = false, thins = false, nearer_mean = false;

  void at_step(double t) {
    decays = weight_decay != 0, shrinks = decoupled_decay != 0, thins = l1 != 0;
    nearer_mean = 1 - beta1 < 0.5;
    step_size = lr / (1 - power(beta1, t));
    root_correction = std::sqrt(1 - power(beta2, t));
    least = raw_eps ? eps / root_correction : eps;
  }
  // beta^t, or 0 where that is less than half of the last place of 1 - beta^t.
  static double power(double beta, double t) { return t * (1 - beta) > 38 ? 0 : std::pow(beta, t); }
  template <class T, class... Largest>
  void operator()(vec<T>& p, vec<T> g, vec<T>& m, vec<T>& v, Largest&... largest) const {
    if (maximize) g = -g;
    if (decays) g = fma<T>(T(weight_decay), p, g);
    if (shrinks) p = p * vec<T>(T(1 - lr * decoupled_decay));
    // PyTorch's lerp: from the better conditioned side.
    m = nearer_mean ? fma<T>(T(1 - beta1), g - m, m) : fma<T>(T((1 - beta1) - 1), g - m, g);
    v = fma<T>(vec<T>(T(1 - beta2)) * g, g, vec<T>(T(beta2)) * v);
    vec<T> second = v;
    if constexpr (sizeof...(Largest) > 0) ((second = largest = maximum<T>(largest, v)), ...);
    const vec<T> denominator = divide_by<T>(root<T>(second), T(root_correction)) + vec<T>(T(least));
    p = p + quotient<T>(vec<T>(T(-step_size)) * m, denominator);
    if (thins) p = soft_threshold<T>(p, lr * l1);
  }

 private:
  template <class T>
  static vec<T> maximum(vec<T> a, vec<T> b) {  // NaN in either stays, like PyTorch's
    return select<T>(b != b, b, max<T>(a, b));
  }
};

// ---- running an update over arrays --------------------------------------------------------------

// Which views an update writes: all but the gradient, the second.
inline constexpr bool written(std::size_t k) { return k != 1; }

// `ahead`: bytes_ahead. The options and addresses are copied: what is stored could change them
// where they lie, as far as the compiler knows, and it would read them again for every register.
template <class T, class F, std::size_t... I>
inline void update_run(const F& options, T* const (&arrays)[sizeof...(I)], std::ptrdiff_t n,
                       std::ptrdiff_t ahead, std::index_sequence<I...>) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const F f = options;
  T* const p[] = {arrays[I]...};
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) {
    (prefetch(p[I] + i, ahead), ...);
    vec<T> x[] = {load<T>(p[I] + i)...};
    f(x[I]...);
    ((written(I) ? store<T>(p[I] + i, x[I]) : void()), ...);
  }
  if (i < n) {
    vec<T> x[] = {load_part<T>(p[I] + i, n - i)...};
    f(x[I]...);
    ((written(I) ? store_part<T>(p[I] + i, x[I], n - i) : void()), ...);
  }
}

// What one parameter array brings to a step, in the order that the update names.
template <class T, std::size_t K>
struct parameter {
  std::array<sequence<T>, K> arrays;
  std::ptrdiff_t size;
};

// Applies sgd or adam to every parameter: one parallel region for all of them.
template <class T, class F, std::size_t K>
void update_parameters(const F& f, const std::vector<parameter<T, K>>& parameters);

}  // namespace dlcore
