// Activation functions: forward(x), and backward(dy, x), the gradient with respect to x. Kernels on
// runs of elements; they read and write 8 bytes an element of float forward, and 12 backward.
// Largest errors in ULP: those of the functions in simd/math.hpp, and one more.
//
// activations.inc lists them: what a function is called, its options, and what proofs need of it.
#pragma once

#include <cstddef>

#include "kernels/options.hpp"

namespace dlcore {

enum class activation_kind {
#define DLCORE_ACTIVATION(name, ...) name,
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
};

inline constexpr activation_kind all_activations[] = {
#define DLCORE_ACTIVATION(name, ...) activation_kind::name,
#include "kernels/activations.inc"
#undef DLCORE_ACTIVATION
};

struct activation_info {
  static constexpr std::size_t most_options = 2;

  const char *name, *backward_name;
  double cost;  // nanoseconds an element of float takes on one thread, roughly
  kernel_option options[most_options];

  std::size_t option_count() const {
    std::size_t n = 0;
    while (n < most_options && options[n].name) ++n;
    return n;
  }
};
const activation_info& info(activation_kind kind);

inline const char* name(activation_kind kind) { return info(kind).name; }
inline double cost(activation_kind kind) { return info(kind).cost; }
// Whether there is an activation of this name.
bool find_activation(const char* name, activation_kind& kind);

// An activation with the values of its options, in the order of the list.
struct activation_spec {
  activation_kind kind;
  double options[activation_info::most_options] = {};
};
activation_spec with_standard_options(activation_kind kind);

// What no slope of it is steeper than.
double lipschitz(const activation_spec& activation);

// y[i] = f(x[i]), and dx[i] = dy[i] f'(x[i]), of n elements; the output may be an input. `ahead`:
// bytes_ahead.
template <class T>
using activation_forward_run = void (*)(const double* options, T* y, std::ptrdiff_t n,
                                        std::ptrdiff_t ahead, const T* x);
template <class T>
using activation_backward_run = void (*)(const double* options, T* dx, std::ptrdiff_t n,
                                         std::ptrdiff_t ahead, const T* dy, const T* x);
template <class T>
activation_forward_run<T> forward_of(activation_kind kind);
template <class T>
activation_backward_run<T> backward_of(activation_kind kind);

}  // namespace dlcore
