#include "network/optimizer.hpp"

#include <limits>
#include <utility>

namespace dlcore {

namespace {

// Squares of what is below vanish among subnormal numbers.
template <class T>
double least_root(const adam& a) {
  return std::sqrt(double(std::numeric_limits<T>::min())) / (1 - a.beta2);
}

template <class T>
void bound_of(const sgd& s, double& gradient, double& reach, double& parameter) {
  gradient += s.weight_decay * parameter;
  reach = s.momentum * reach + (1 + std::abs(s.dampening)) * gradient;
  parameter += s.lr * (gradient + (1 + s.momentum) * reach);
}
template <class T>
void bound_of(const adam& a, double& gradient, double& reach, double& parameter) {
  gradient += a.weight_decay * parameter;
  parameter *= std::max(1.0, std::abs(1 - a.lr * a.decoupled_decay));
  // The mean of squares is at least beta2 times what it was, and 1 - beta2 times a new square.
  reach = 1.01 * (a.beta1 / std::sqrt(a.beta2) * reach + (1 - a.beta1) / std::sqrt(1 - a.beta2));
  parameter += a.step_size * reach * (a.root_correction + least_root<T>(a) / a.least);
}

// `update_run` with a factor on the gradients, the old values kept in `before`, and a check.
template <class T, class F, std::size_t... I>
bool guarded_update(const F& options, T* const (&arrays)[sizeof...(I)], std::ptrdiff_t n, T factor,
                    T* before, std::index_sequence<I...>) {
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

}  // namespace

void optimizer::begin_step(double number, double normalizer) {
  for (group& g : groups) {
    const bool penalized = g.penalty > 0 && normalizer > 0;
    const double decay = g.weight_decay + (penalized ? g.penalty / normalizer : 0);
    std::visit([&](auto& o) { o.weight_decay = decay; }, g.options);
    if (auto* a = std::get_if<adam>(&g.options)) a->at_step(g.steps + number);
  }
}

template <class T, class F>
auto optimizer::with_state(const trained_parameter<T>& p, const F& f) const {
  const auto& options = groups[p.group].options;
  if (const auto* s = std::get_if<sgd>(&options)) return p.state[0] ? f(*s, p.state[0]) : f(*s);
  const adam& a = std::get<adam>(options);
  return p.state[2] ? f(a, p.state[0], p.state[1], p.state[2]) : f(a, p.state[0], p.state[1]);
}

template <class T>
void optimizer::clip(T* gradient, std::ptrdiff_t n) const {
  if (clip_value == 0) return;
  const vec<T> most = T(clip_value);
  map_run<T>(
      [=](vec<T> g) {  // NaN stays
        return select<T>(g > most, most, select<T>(g < -most, -most, g));
      },
      gradient, n, 0, gradient);
}

template <class T>
void optimizer::apply(const trained_parameter<T>& p, T* gradient, std::ptrdiff_t begin,
                      std::ptrdiff_t end, T factor) const {
  clip(gradient, end - begin);
  if (factor != 1) {
    const vec<T> scale = factor;
    map_run<T>([=](vec<T> g) { return g * scale; }, gradient, end - begin, 0, gradient);
  }
  with_state(p, [&](const auto& f, auto... state) {
    T* const arrays[] = {p.of->value + begin, gradient, state + begin...};
    update_run<T>(f, arrays, end - begin, 0, std::make_index_sequence<2 + sizeof...(state)>());
  });
}

template <class T>
bool optimizer::apply_guarded(const trained_parameter<T>& p, std::ptrdiff_t begin,
                              std::ptrdiff_t end, T factor, T* before) const {
  clip(p.of->gradient + begin, end - begin);
  return with_state(p, [&](const auto& f, auto... state) {
    T* const arrays[] = {p.of->value + begin, p.of->gradient + begin, state + begin...};
    return guarded_update(f, arrays, end - begin, factor, before,
                          std::make_index_sequence<2 + sizeof...(state)>());
  });
}

template <class T>
void optimizer::average(const trained_parameter<T>& p, std::ptrdiff_t begin,
                        std::ptrdiff_t end) const {
  if (!p.average) return;
  const vec<T> rate = T(1 - average_decay);
  map_run<T>([=](vec<T> a, vec<T> x) { return fma<T>(rate, x - a, a); }, p.average + begin,
             end - begin, 0, p.average + begin, p.of->value + begin);
}

template <class T>
double optimizer::reach(const trained_parameter<T>& p) const {
  constexpr std::ptrdiff_t w = vec<T>::size;
  largest_of<T> largest;
  const auto* a = std::get_if<adam>(&groups[p.group].options);
  if (!a && p.state[0]) largest.take(p.state[0], p.of->size);
  for (std::ptrdiff_t i = 0; a && i < p.of->size; i += w) {
    const auto get = [&](const T* x) { return load_up_to(x + i, p.of->size - i); };
    largest.take(get(p.state[0]) / max<T>(sqrt(get(p.state[1])), T(least_root<T>(*a))));
  }
  return largest.value();
}

template <class T>
void optimizer::bound(double& gradient, double& reach, double& parameter) const {
  double most[3] = {0, 0, 0};
  for (const group& g : groups) {
    double own[3] = {gradient, reach, parameter};
    std::visit([&](const auto& o) { bound_of<T>(o, own[0], own[1], own[2]); }, g.options);
    for (int i = 0; i < 3; ++i)
      if (!(own[i] <= most[i])) most[i] = own[i];  // NaN stays
  }
  gradient = most[0], reach = most[1];
  parameter = most[2] * 1.0001;  // and rounding
}

#define DLCORE_INSTANTIATE(T)                                                                     \
  template void optimizer::apply(const trained_parameter<T>&, T*, std::ptrdiff_t, std::ptrdiff_t, \
                                 T) const;                                                        \
  template bool optimizer::apply_guarded(const trained_parameter<T>&, std::ptrdiff_t,             \
                                         std::ptrdiff_t, T, T*) const;                            \
  template void optimizer::average(const trained_parameter<T>&, std::ptrdiff_t, std::ptrdiff_t)   \
      const;                                                                                      \
  template double optimizer::reach(const trained_parameter<T>&) const;                            \
  template void optimizer::bound<T>(double&, double&, double&) const;
DLCORE_INSTANTIATE(float)
DLCORE_INSTANTIATE(double)
#undef DLCORE_INSTANTIATE

}  // namespace dlcore
