// The update of a training step: an optimizer's rule over parts of the parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <variant>

#include "kernels/optimizers.hpp"
#include "network/layers.hpp"

namespace dlcore {

// The largest absolute value of what is taken, inf if there is NaN.
template <class T>
class largest_of {
 public:
  void take(vec<T> x) { most_[0] = larger(most_[0], x); }
  void take(const T* x, std::ptrdiff_t n) {
    constexpr std::ptrdiff_t w = vec<T>::size;
    std::ptrdiff_t i = 0;
    for (; i + 4 * w <= n; i += 4 * w)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) most_[k] = larger(most_[k], load<T>(x + i + k * w));
    for (; i + w <= n; i += w) take(load<T>(x + i));
    if (i < n) take(load_part<T>(x + i, n - i));
  }
  double value() const {
    vec<bits> most = most_[0];
    for (int k = 1; k < 4; ++k) most = larger(most, bit_cast<T>(most_[k]));
    T lanes[vec<T>::size];
    store<T>(lanes, bit_cast<T>(most));
    double all = 0;
    for (T v : lanes) all = v <= all ? all : v == v ? double(v) : HUGE_VAL;
    return all;
  }

 private:
  using bits = int_of<T>;
  // Of non-negative numbers, as integers NaN is above all others. Several in flight.
  vec<bits> most_[4] = {bits(0), bits(0), bits(0), bits(0)};

  static vec<bits> larger(vec<bits> most, vec<T> x) {
    const vec<bits> b = bit_cast<bits>(x) & vec<bits>(std::numeric_limits<bits>::max());
    return select<bits>(b > most, b, most);
  }
};

// One parameter that is trained, with its state, the number of its group of options, and unless
// null the running average of its values.
template <class T>
struct trained {
  tensor<T>* of;
  std::array<T*, 3> state;
  std::size_t group;
  T* average;

  bool operator==(const trained& other) const {
    return of == other.of && state == other.state && group == other.group &&
           average == other.average;
  }
};

class update_rule {
 public:
  using options = std::variant<sgd, adam>;
  // Options, and the L2 penalty on the parameters that is part of the loss: half of it times the
  // sum of their squares, divided by the mass of the batch.
  struct group {
    options rule;
    double weight_decay, penalty;

    group(const options& rule, double penalty)
        : rule(rule),
          weight_decay(std::visit([](const auto& r) { return r.weight_decay; }, rule)),
          penalty(penalty) {}
  };
  std::vector<group> groups;
  int states = 0;         // arrays of state for each parameter
  double clip_value = 0;  // the largest absolute gradient; 0: any
  double decay = 0;       // of the averages

  void set_rates(const double* rates) {
    for (group& g : groups) std::visit([&](auto& r) { r.lr = *rates++; }, g.rule);
  }
  // The rules of the next step, for a batch of that mass.
  void next(double number, double mass) {
    for (group& g : groups) {
      const double decay = g.weight_decay + (g.penalty > 0 && mass > 0 ? g.penalty / mass : 0);
      std::visit([&](auto& r) { r.weight_decay = decay; }, g.rule);
      if (auto* a = std::get_if<adam>(&g.rule)) a->at_step(number);
    }
  }
  void after_first() {
    for (group& g : groups)
      if (auto* s = std::get_if<sgd>(&g.rule)) s->first = false;
  }
  bool penalizes() const {
    return std::any_of(groups.begin(), groups.end(), [](const group& g) { return g.penalty > 0; });
  }
  template <class T>
  bool penalizes(const trained<T>& p) const {
    return groups[p.group].penalty > 0;
  }
  // Updates elements with the gradients from `gradient` on.
  template <class T>
  void apply(const trained<T>& p, T* gradient, std::ptrdiff_t begin, std::ptrdiff_t end) const {
    clip(gradient, end - begin);
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, gradient, state + begin...};
      update_run<T>(f, arrays, end - begin, 0, std::make_index_sequence<2 + sizeof...(state)>());
    };
    with_state(p, on);
  }
  // What bounds the next steps of a state: of SGD the largest momentum; of Adam, of which no
  // gradient makes a long step, the largest ratio of the mean to the root of the mean of squares.
  template <class T>
  double reach(const trained<T>& p) const {
    constexpr std::ptrdiff_t w = vec<T>::size;
    largest_of<T> largest;
    const auto* a = std::get_if<adam>(&groups[p.group].rule);
    if (!a && states > 0) largest.take(p.state[0], p.of->size);
    for (std::ptrdiff_t i = 0; a && i < p.of->size; i += w) {
      const std::ptrdiff_t n = std::min(w, p.of->size - i);
      const auto get = [&](const T* x) { return n == w ? load<T>(x + i) : load_part<T>(x + i, n); };
      largest.take(get(p.state[0]) / max<T>(sqrt(get(p.state[1])), T(least_root<T>(*a))));
    }
    return largest.value();
  }
  // Given the largest absolute values of the gradient and the parameters, and the reach: the
  // largest that they can be after a step.
  template <class T>
  void bound(double& gradient, double& reach, double& parameter) const {
    double most[3] = {0, 0, 0};
    for (const group& g : groups) {
      double own[3] = {gradient, reach, parameter};
      std::visit([&](const auto& r) { bound_of<T>(r, own[0], own[1], own[2]); }, g.rule);
      for (int i = 0; i < 3; ++i)
        if (!(own[i] <= most[i])) most[i] = own[i];  // NaN stays
    }
    gradient = most[0], reach = most[1];
    parameter = most[2] * 1.0001;  // and rounding
  }
  // Whether the bound on the parameters is close enough to follow what grows with them.
  bool is_close() const { return std::holds_alternative<adam>(groups[0].rule); }
  // Updates elements, whose gradients count `factor` times, and keeps their values in `before`.
  // Whether the new ones are finite.
  template <class T>
  bool apply(const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end, T factor,
             T* before) const {
    clip(p.of->gradient + begin, end - begin);
    const auto on = [&](const auto& f, auto... state) {
      T* const arrays[] = {p.of->value + begin, p.of->gradient + begin, state + begin...};
      return guarded_update(f, arrays, end - begin, factor, before,
                            std::make_index_sequence<2 + sizeof...(state)>());
    };
    return with_state(p, on);
  }

  // Moves the averages of elements towards their new values.
  template <class T>
  void average(const trained<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end) const {
    if (!p.average) return;
    const vec<T> share = T(1 - decay);
    map_run<T>([=](vec<T> a, vec<T> x) { return fma<T>(share, x - a, a); }, p.average + begin,
               end - begin, 0, p.average + begin, p.of->value + begin);
  }

 private:
  template <class T>
  void clip(T* gradient, std::ptrdiff_t n) const {
    if (clip_value == 0) return;
    const vec<T> most = T(clip_value);
    map_run<T>(
        [=](vec<T> g) {  // NaN stays
          return select<T>(g > most, most, select<T>(g < -most, -most, g));
        },
        gradient, n, 0, gradient);
  }
  // Squares of what is below vanish among subnormal numbers.
  template <class T>
  static double least_root(const adam& a) {
    return std::sqrt(double(std::numeric_limits<T>::min())) / (1 - a.beta2);
  }
  template <class T>
  static void bound_of(const sgd& s, double& gradient, double& reach, double& parameter) {
    gradient += s.weight_decay * parameter;
    reach = s.momentum * reach + (1 + std::abs(s.dampening)) * gradient;
    parameter += s.lr * (gradient + (1 + s.momentum) * reach);
  }
  template <class T>
  static void bound_of(const adam& a, double& gradient, double& reach, double& parameter) {
    gradient += a.weight_decay * parameter;
    parameter *= std::max(1.0, std::abs(1 - a.lr * a.decoupled_decay));
    // The mean of squares is at least beta2 times what it was, and 1 - beta2 times a new square.
    reach = 1.01 * (a.beta1 / std::sqrt(a.beta2) * reach + (1 - a.beta1) / std::sqrt(1 - a.beta2));
    parameter += a.step_size * reach * (a.root_correction + least_root<T>(a) / a.least);
  }
  // f(rule, arrays of state...)
  template <class T, class F>
  auto with_state(const trained<T>& p, const F& f) const {
    const options& rule = groups[p.group].rule;
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

}  // namespace dlcore
