#include "kernels/activations.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/elementwise.hpp"
#include "simd/math.hpp"

namespace dlcore {

namespace {

// Members are the options, in the order of the list.
//
// NaN stays NaN in every forward: the comparisons are written so that a NaN takes the arm that
// carries it on.

struct relu {
  template <class T>
  vec<T> forward(vec<T> x) const {  // -0 stays -0
    return select<T>(x < vec<T>(T(0)), vec<T>(T(0)), x);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x <= vec<T>(T(0)), vec<T>(T(0)), dy);
  }
};

struct leaky_relu {
  double negative_slope;
  template <class T>
  vec<T> forward(vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), x, x * vec<T>(T(negative_slope)));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), dy, dy * vec<T>(T(negative_slope)));
  }
};

// The same with a slope of 0, which times -infinity would be NaN.
struct flat_relu {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return max<T>(x, std::numeric_limits<T>::lowest()) * select<T>(x > vec<T>(T(0)), T(1), T(0));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), dy, dy * vec<T>(T(0)));
  }
};

struct elu {
  double alpha;
  template <class T>
  vec<T> forward(vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), x, vec<T>(T(alpha)) * expm1<T>(x));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), dy, dy * (vec<T>(T(alpha)) * exp<T>(x)));
  }
};

// Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, NeurIPS 2017.
constexpr double selu_scale = 1.0507009873554804934193349852946;
constexpr double selu_alpha = 1.6732632423543772848170429916717;

struct selu {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), vec<T>(T(selu_scale)) * x,
                     vec<T>(T(selu_scale * selu_alpha)) * expm1<T>(x));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x > vec<T>(T(0)), dy * vec<T>(T(selu_scale)),
                     dy * (vec<T>(T(selu_scale * selu_alpha)) * exp<T>(x)));
  }
};

struct logistic {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return sigmoid<T>(x);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    vec<T> e = exp_negative<T>(negative_abs<T>(x)),
           u = vec<T>(T(1)) + e;  // s (1 - s), without the cancellation
    return dy * (e / (u * u));
  }
};

struct hyperbolic_tangent {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return tanh<T>(x);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    // 1 - tanh^2 = 4 e / (1 + e)^2, without the cancellation
    vec<T> e = exp_negative<T>(vec<T>(T(-2)) * abs(x)), u = vec<T>(T(1)) + e;
    return dy * (vec<T>(T(4)) * e / (u * u));
  }
};

// x e^x where e^x is subnormal and has lost the digits that its product with x still has: there e^x
// is the square of the root e^(x / 2).
template <class T>
struct far_tail {
  mask<T> is_there;
  vec<T> x, root;  // x: not below where all is 0, since infinity times 0 is NaN

  explicit far_tail(vec<T> of)
      : is_there(of < vec<T>(float_traits<T>::exp_normal_min)),
        x(max<T>(of, T(2) * float_traits<T>::exp_min)),
        root(exp_negative<T>(vec<T>(T(0.5)) * min<T>(x, T(0)))) {}
  vec<T> value() const { return x * root * root; }
  vec<T> slope_times(vec<T> dy) const { return dy * ((x + vec<T>(T(1))) * root) * root; }
  // Far to the right the slopes are 1: there x times 0 must not become infinity times 0.
  vec<T> near() const { return min<T>(x, T(-2) * float_traits<T>::exp_min); }
};

struct silu {
  template <class T>
  vec<T> forward(vec<T> x) const {
    const vec<T> z = negative_abs<T>(x);
    if (any_subnormal_exp<T>(z)) {
      const far_tail<T> tail(x);
      return select<T>(tail.is_there, tail.value(), x * sigmoid<T>(x));
    }
    return x * sigmoid<T>(x, exp_normal<T>(z));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const vec<T> z = negative_abs<T>(x);
    if (any_subnormal_exp<T>(z)) {
      const far_tail<T> tail(x);
      const vec<T> near = tail.near(), e = exp_negative<T>(negative_abs<T>(near));
      return select<T>(tail.is_there, tail.slope_times(dy), slope_times<T>(dy, near, e));
    }
    return slope_times<T>(dy, x, exp_normal<T>(z));
  }

 private:
  template <class T>
  static vec<T> slope_times(vec<T> dy, vec<T> x, vec<T> e) {
    // With s the sigmoid of x and 1 - s that of -x, s (1 + x (1 - s)): over one denominator, and
    // from 1 + x, which is exact where the sum crosses 0.
    const vec<T> one = T(1), two = T(2);
    const mask<T> negative = x < vec<T>(T(0));
    const vec<T> of_s = select<T>(negative, e, one), of_rest = select<T>(negative, one, e);
    return dy * (fma<T>(x + one, of_rest, of_s) / fma<T>(e, e + two, one) * of_s);
  }
};

// x tanh(log(1 + e^x)), whose tanh is, with e = e^-|x|, e (e + 2) / (e (e + 2) + 2) on the left and
// (1 + 2 e) / (1 + 2 e + 2 e^2) on the right.
struct mish {
  template <class T>
  vec<T> forward(vec<T> x) const {
    const vec<T> z = negative_abs<T>(x);
    if (any_subnormal_exp<T>(z)) {
      const far_tail<T> tail(x);
      return select<T>(tail.is_there, tail.value(), value(x, exp_negative<T>(z)));
    }
    return value(x, exp_normal<T>(z));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const vec<T> z = negative_abs<T>(x);
    if (any_subnormal_exp<T>(z)) {
      const far_tail<T> tail(x);
      const vec<T> near = tail.near(), e = exp_negative<T>(negative_abs<T>(near));
      return select<T>(tail.is_there, tail.slope_times(dy), dy * slope(near, e));
    }
    return dy * slope(x, exp_normal<T>(z));
  }

 private:
  template <class T>
  static vec<T> value(vec<T> x, vec<T> e) {
    const vec<T> one = T(1), two = T(2);
    const mask<T> negative = x < vec<T>(T(0));
    const vec<T> of_tanh = select<T>(negative, fma<T>(e, e, two * e), fma<T>(two, e, one));
    const vec<T> rest = select<T>(negative, two, two * e * e);
    return x * (of_tanh / (of_tanh + rest));
  }
  // A polynomial in e over the square of the denominator; on the right that is what the slope has
  // beyond 1, which is little. Those with x are from x + 1, which is exact near the zero of the
  // slope.
  template <class T>
  static vec<T> slope(vec<T> x, vec<T> e) {
    const vec<T> zero = T(0), one = T(1), two = T(2), four = T(4);
    const mask<T> negative = x < zero;
    const vec<T> of_x = four * (x + one);
    const vec<T> c[] = {
        select<T>(negative, of_x, zero), of_x + select<T>(negative, two, vec<T>(T(-6))),
        select<T>(negative, four, of_x - vec<T>(T(8))), select<T>(negative, one, -four)};
    vec<T> sum = c[3];
    for (int i = 2; i >= 0; --i) sum = fma<T>(sum, e, c[i]);
    const vec<T> root = select<T>(negative, fma<T>(e, e + two, two), fma<T>(two * e, e + one, one));
    return select<T>(negative, zero, one) + e * sum / (root * root);
  }
};

struct softplus {
  double beta, threshold;
  template <class T>
  vec<T> forward(vec<T> x) const {
    vec<T> z = vec<T>(T(beta)) * x;
    vec<T> smooth = max<T>(z, T(0)) + log1p_unit<T>(exponential<T>(x, z));
    return select<T>(z > vec<T>(T(threshold)), x, smooth / vec<T>(T(beta)));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    vec<T> z = vec<T>(T(beta)) * x;
    return select<T>(z > vec<T>(T(threshold)), dy, dy * sigmoid<T>(z, exponential<T>(x, z)));
  }

 private:
  // e^-|beta x|, where z is the rounded product: exp multiplies the error of its argument.
  template <class T>
  vec<T> exponential(vec<T> x, vec<T> z) const {
    const vec<T> e = exp_negative<T>(negative_abs<T>(z));
    const vec<T> rounded = T(beta), rest = T(beta - double(T(beta))), zero = T(0);
    const vec<T> lost = fma<T>(rest, x, product_error<T>(rounded, x, z));
    const vec<T> larger = select<T>(z < zero, lost, -lost);  // -|z| by that much
    // Where z is infinite, so is what is lost.
    const mask<T> counts = negative_abs<T>(z) > vec<T>(float_traits<T>::exp_min);
    return fma<T>(e, select<T>(counts, larger, zero), e);
  }
};

// The same with beta 1.
struct standard_softplus {
  double threshold;
  template <class T>
  vec<T> forward(vec<T> x) const {
    vec<T> smooth = max<T>(x, T(0)) + log1p_unit<T>(exp_negative<T>(negative_abs<T>(x)));
    return select<T>(x > vec<T>(T(threshold)), x, smooth);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return select<T>(x > vec<T>(T(threshold)), dy, dy * sigmoid<T>(x));
  }
};

// log(sigmoid(x)) = min(x, 0) - log(1 + e^-|x|).
struct log_sigmoid {
  template <class T>
  vec<T> forward(vec<T> x) const {
    return min<T>(x, T(0)) - log1p_unit<T>(exp_negative<T>(negative_abs<T>(x)));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    return dy * sigmoid<T>(-x);
  }
};

// x Phi(x), Phi the normal distribution function.
struct gelu {
  template <class T>
  vec<T> forward(vec<T> x) const {
    const half_square<T> square(x);
    if (square.any_far()) {
      // Beyond 40 Phi is 0, and infinity times 0 would be NaN.
      const far_normal_exponential<T> far(x, square);
      return max<T>(x, T(-40)) * normal_cdf<T>(x, far.value) * far.scale;
    }
    return x * normal_cdf<T>(x, near_normal_exponential<T>(square));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const half_square<T> square(x);
    if (square.any_far()) {
      const far_normal_exponential<T> far(x, square);
      return dy * slope(clamp<T>(x, T(-40), T(40)), far.value) * far.scale;
    }
    return dy * slope(x, near_normal_exponential<T>(square));
  }

 private:
  template <class T>
  static vec<T> slope(vec<T> x, vec<T> exponential) {
    constexpr T inverse_root_two_pi = T(0.39894228040143267794);
    return fma<T>(vec<T>(inverse_root_two_pi) * x, exponential, normal_cdf<T>(x, exponential));
  }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
struct gelu_tanh {
  template <class T>
  vec<T> forward(vec<T> x) const {
    // Below -100 the sigmoid is 0, and infinity times 0 would be NaN.
    return max<T>(x, T(-100)) * sigmoid<T>(exponent<T>(x).two_u);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const auto [two_u, x_slope] = exponent<T>(x);
    return dy * (sigmoid<T>(two_u) * fma<T>(x_slope, sigmoid<T>(-two_u), T(1)));
  }

 private:
  template <class T>
  struct exponent {
    vec<T> two_u, x_slope;  // 2 u, and x times its derivative

    explicit exponent(vec<T> x) {
      constexpr double root = 1.5957691216057307118;  // 2 sqrt(2 / pi)
      constexpr double cubic = 0.044715;
      // The sigmoid is 0 or 1 long before: no overflow, whose product with 0 would be NaN.
      x = clamp<T>(x, T(-100), T(100));
      const vec<T> one = T(1), scaled = vec<T>(T(root)) * x;
      two_u = scaled * fma<T>(T(cubic), x * x, one);
      x_slope = scaled * fma<T>(T(3 * cubic), x * x, one);
    }
  };
};

// Calls f with the functor of an activation, or with one that is the same for these options.
template <class Op, class F>
inline void with_options([[maybe_unused]] const double* option, const F& f) {
  if constexpr (std::is_same_v<Op, softplus>) {
    if (option[0] == 1) f(standard_softplus{option[1]});
    else f(softplus{option[0], option[1]});
  } else if constexpr (std::is_same_v<Op, leaky_relu>) {
    if (option[0] == 0) f(flat_relu());
    else f(leaky_relu{option[0]});
  } else if constexpr (std::is_empty_v<Op>) {
    f(Op());
  } else {
    f(Op{option[0]});
  }
}

template <class T, class Op>
void forward_run(const double* options, T* y, std::ptrdiff_t n, std::ptrdiff_t ahead, const T* x) {
  with_options<Op>(options, [&](const auto op) {
    map_run<T>([op](vec<T> v) { return op.template forward<T>(v); }, y, n, ahead, x);
  });
}
template <class T, class Op>
void backward_run(const double* options, T* dx, std::ptrdiff_t n, std::ptrdiff_t ahead, const T* dy,
                  const T* x) {
  with_options<Op>(options, [&](const auto op) {
    map_run<T>([op](vec<T> d, vec<T> v) { return op.template backward<T>(d, v); }, dx, n, ahead, dy,
               x);
  });
}

constexpr activation_info infos[] = {
#define DLCORE_ACTIVATION(name, op, cost, lipschitz, ...) \
  {#name, #name "_backward", cost, {__VA_ARGS__}},
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
};

}  // namespace

const activation_info& info(activation_kind kind) { return infos[std::size_t(kind)]; }

bool find_activation(const char* name, activation_kind& kind) {
  for (const activation_kind k : all_activations)
    if (std::strcmp(name, info(k).name) == 0) return kind = k, true;
  return false;
}

activation_spec with_standard_options(activation_kind kind) {
  activation_spec spec{kind};
  for (std::size_t i = 0; i < activation_info::most_options; ++i)
    spec.options[i] = info(kind).options[i].standard;
  return spec;
}

double lipschitz(const activation_spec& activation) {
  [[maybe_unused]] const double* option = activation.options;
  switch (activation.kind) {
#define DLCORE_ACTIVATION(name, op, cost, lipschitz, ...) \
  case activation_kind::name:                             \
    return lipschitz;
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
  }
  __builtin_unreachable();
}

template <class T>
activation_forward_run<T> forward_of(activation_kind kind) {
  static constexpr activation_forward_run<T> runs[] = {
#define DLCORE_ACTIVATION(name, op, ...) forward_run<T, op>,
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
  };
  return runs[std::size_t(kind)];
}
template <class T>
activation_backward_run<T> backward_of(activation_kind kind) {
  static constexpr activation_backward_run<T> runs[] = {
#define DLCORE_ACTIVATION(name, op, ...) backward_run<T, op>,
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
  };
  return runs[std::size_t(kind)];
}

template activation_forward_run<float> forward_of<float>(activation_kind);
template activation_forward_run<double> forward_of<double>(activation_kind);
template activation_backward_run<float> backward_of<float>(activation_kind);
template activation_backward_run<double> backward_of<double>(activation_kind);

}  // namespace dlcore
