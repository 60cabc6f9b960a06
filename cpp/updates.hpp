// The update of a training step: an optimizer's rule over parts of the parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <variant>

#include "network.hpp"
#include "optimizers.hpp"

namespace dlcore {

// One parameter that is trained, with its state.
template <class T>
struct trained {
  tensor<T>* of;
  std::array<T*, 3> state;
};

class update_rule {
 public:
  std::variant<sgd, adam> rule;
  int states;  // arrays of state for each parameter

  update_rule(std::variant<sgd, adam> rule, int states) : rule(rule), states(states) {}
  // Rules of further steps: `first` and the step's number are all that changes.
  void next(double number) {
    if (auto* a = std::get_if<adam>(&rule)) a->at_step(number);
  }
  void after_first() {
    if (auto* s = std::get_if<sgd>(&rule)) s->first = false;
  }
  // Updates elements with the gradients from `gradient` on.
  template <class T>
  void apply(const trained<T>& p, T* gradient, std::ptrdiff_t begin, std::ptrdiff_t end) const {
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, gradient, state + begin...};
      update_run<T>(f, arrays, end - begin, 0, std::make_index_sequence<2 + sizeof...(state)>());
    };
    with_state(p, on);
  }
  // Given the largest absolute values of the gradient, of the first state and of the parameters:
  // the largest that they can be after a step.
  void bound(double& gradient, double& state, double& parameter) const {
    if (const auto* s = std::get_if<sgd>(&rule)) {
      gradient += s->weight_decay * parameter;
      state = s->momentum * state + (1 + std::abs(s->dampening)) * gradient;
      parameter += s->lr * (gradient + (1 + s->momentum) * state);
    } else {
      const adam& a = std::get<adam>(rule);
      if (!a.decoupled) gradient += a.weight_decay * parameter;
      state = std::max(state, gradient);  // a mean of gradients
      if (a.decoupled) parameter *= std::max(1.0, std::abs(1 - a.lr * a.weight_decay));
      parameter += a.step_size * state / a.eps;
    }
    parameter *= 1.001;  // and rounding
  }
  // Updates elements, whose gradients count `factor` times, and keeps their values in `before`.
  // Whether the new ones are finite.
  template <class T>
  bool apply(const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end, T factor,
             T* before) const {
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, p.of->gradient + begin, state + begin...};
      return guarded_update(f, arrays, end - begin, factor, before,
                            std::make_index_sequence<2 + sizeof...(state)>());
    };
    return with_state(p, on);
  }

 private:
  // f(rule, arrays of state...)
  template <class T, class F>
  auto with_state(const trained<T>& p, const F& f) const {
    if (const auto* s = std::get_if<sgd>(&rule)) return states ? f(*s, p.state[0]) : f(*s);
    const adam& a = std::get<adam>(rule);
    return states > 2 ? f(a, p.state[0], p.state[1], p.state[2]) : f(a, p.state[0], p.state[1]);
  }

  template <class T, class F, std::size_t... I>
  static bool guarded_update(const F& options, T* const (&arrays)[sizeof...(I)], std::ptrdiff_t n,
                             T factor, T* before, std::index_sequence<I...>) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    const F f = options;  // copied as in update_run
    T* const p[] = {arrays[I]...};
    const vec<T> zero = T(0), scale = factor;
    vec<T> sum = zero;  // of p - p: 0, or NaN
    std::ptrdiff_t i = 0;
    const auto step = [&](vec<T>(&x)[sizeof...(I)]) {
      x[1] *= scale;
      f(x[I]...);
      sum += x[0] - x[0];
    };
    for (; i + w <= n; i += w) {
      vec<T> x[] = {load<T>(p[I] + i)...};
      store<T>(before + i, x[0]);
      step(x);
      ((written(I) ? store<T>(p[I] + i, x[I]) : void()), ...);
    }
    if (i < n) {
      vec<T> x[] = {load_part<T>(p[I] + i, n - i)...};
      store_part<T>(before + i, x[0], n - i);
      step(x);
      ((written(I) ? store_part<T>(p[I] + i, x[I], n - i) : void()), ...);
    }
    return !any(sum != zero);
  }
};

template <class T>
inline bool all_finite(const T* x, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t w = vec<T>::size;
  const vec<T> zero = T(0);
  vec<T> sum = zero;  // of x - x: 0, or NaN
  std::ptrdiff_t i = 0;
  for (; i + w <= n; i += w) {
    const vec<T> v = load<T>(x + i);
    sum += v - v;
  }
  if (i < n) {
    const vec<T> v = load_part<T>(x + i, n - i);
    sum += v - v;
  }
  return !any(sum != zero);
}

}  // namespace dlcore
