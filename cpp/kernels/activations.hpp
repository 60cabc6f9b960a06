// Activation functions: forward(x), and backward(dy, x), the gradient with respect to x.
// Members are the options, in the order that Python gives them.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.hpp"
#include "simd/math.hpp"

namespace dlcore {

// NaN stays NaN in every forward: the comparisons are written so that a NaN takes the arm that
// carries it on.

struct relu {
  static constexpr const char* name = "relu";
  static constexpr double cost = 0.1;
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
  static constexpr const char* name = "leaky_relu";
  static constexpr double cost = 0.1;
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

struct elu {
  static constexpr const char* name = "elu";
  static constexpr double cost = 0.6;
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

struct sigmoid_op {
  static constexpr const char* name = "sigmoid";
  static constexpr double cost = 0.8;
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

struct tanh_op {
  static constexpr const char* name = "tanh";
  static constexpr double cost = 0.8;
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

struct silu {
  static constexpr const char* name = "silu";
  static constexpr double cost = 0.8;
  template <class T>
  vec<T> forward(vec<T> x) const {
    return x * sigmoid<T>(x);
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    const vec<T> one = T(1);
    return dy * (sigmoid<T>(x) * fma<T>(x, sigmoid<T>(-x), one));
  }
};

struct softplus {
  static constexpr const char* name = "softplus";
  static constexpr double cost = 1.2;
  double beta, threshold;
  template <class T>
  vec<T> forward(vec<T> x) const {
    vec<T> z = vec<T>(T(beta)) * x;
    vec<T> smooth = max<T>(z, T(0)) + log1p_unit<T>(exp_negative<T>(negative_abs<T>(z)));
    return select<T>(z > vec<T>(T(threshold)), x, smooth / vec<T>(T(beta)));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    vec<T> z = vec<T>(T(beta)) * x;
    return select<T>(z > vec<T>(T(threshold)), dy, dy * sigmoid<T>(z));
  }
};

// x Phi(x), Phi the normal distribution function.
struct gelu {
  static constexpr const char* name = "gelu";
  static constexpr double cost = 1.5;
  template <class T>
  vec<T> forward(vec<T> x) const {
    return x * normal_cdf<T>(x, normal_exponential<T>(x));
  }
  template <class T>
  vec<T> backward(vec<T> dy, vec<T> x) const {
    constexpr T inverse_root_two_pi = T(0.39894228040143267794);
    vec<T> exponential = normal_exponential<T>(x);
    return dy * fma<T>(vec<T>(inverse_root_two_pi) * x, exponential, normal_cdf<T>(x, exponential));
  }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
struct gelu_tanh {
  static constexpr const char* name = "gelu_tanh";
  static constexpr double cost = 1.0;
  template <class T>
  vec<T> forward(vec<T> x) const {
    return x * sigmoid<T>(exponent<T>(x).two_u);
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

// Runs of elements, compiled once for all who need them.
template <class T, class Op>
__attribute__((noinline)) void forward_run(const Op& op, T* y, std::ptrdiff_t n,
                                           std::ptrdiff_t ahead, const T* x) {
  map_run<T>([op](vec<T> v) { return op.forward(v); }, y, n, ahead, x);
}
template <class T, class Op>
__attribute__((noinline)) void backward_run(const Op& op, T* dx, std::ptrdiff_t n,
                                            std::ptrdiff_t ahead, const T* dy, const T* x) {
  map_run<T>([op](vec<T> d, vec<T> v) { return op.backward(d, v); }, dx, n, ahead, dy, x);
}

// The slope is nowhere steeper.
template <class Op>
inline double steepest(const Op& op) {
  if constexpr (std::is_same_v<Op, leaky_relu>) return std::max(1.0, std::abs(op.negative_slope));
  else if constexpr (std::is_same_v<Op, elu>) return std::max(1.0, std::abs(op.alpha));
  else return 1.2;  // 1.13 of gelu, 1.1 of silu, 1 of the others
}

// An operation with the options that it has by default.
template <class Op>
inline Op default_options() {
  if constexpr (std::is_same_v<Op, leaky_relu>) return {0.01};
  else if constexpr (std::is_same_v<Op, elu>) return {1.0};
  else if constexpr (std::is_same_v<Op, softplus>) return {1.0, 20.0};
  else return {};
}

}  // namespace dlcore
