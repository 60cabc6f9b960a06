// Elementwise losses, alone or fused with their gradient: 8 bytes an element of float are read, and
// 4 more written with the gradient. losses.inc lists them.
#pragma once

#include <array>
#include <cstddef>

#include "core/parallel.hpp"
#include "core/strided_view.hpp"
#include "kernels/options.hpp"

namespace dlcore {

enum class reduction { none, mean, sum };

enum class loss_kind {
#define DLCORE_LOSS(name, ...) name,
#define DLCORE_LOSS_WITH_MORE DLCORE_LOSS
#include "kernels/losses.inc"
#undef DLCORE_LOSS
#undef DLCORE_LOSS_WITH_MORE
};

inline constexpr loss_kind all_losses[] = {
#define DLCORE_LOSS(name, ...) loss_kind::name,
#define DLCORE_LOSS_WITH_MORE DLCORE_LOSS
#include "kernels/losses.inc"
#undef DLCORE_LOSS
#undef DLCORE_LOSS_WITH_MORE
};

// What the mean of weighted losses divides by: their weights, or their number.
enum class weighted_mean { by_weights, by_number };

struct loss_info {
  static constexpr std::size_t most_options = 1;

  const char* name;
  double cost;          // nanoseconds an element of float takes on one thread, roughly
  const char* further;  // a third input, after the predictions and the targets, or null
  weighted_mean mean;
  bool plain;  // the bindings take no arguments but inputs, options, weights and the reduction
  kernel_option options[most_options];

  std::size_t inputs() const { return further ? 3 : 2; }
  std::size_t option_count() const { return options[0].name ? 1 : 0; }
};
const loss_info& info(loss_kind kind);

// Whether there is a loss of this name.
bool find_loss(const char* name, loss_kind& kind);

// A loss with the values of its options, in the order of the list.
struct loss_spec {
  loss_kind kind;
  double options[loss_info::most_options] = {};
};

// The operands of a loss, of one shape: the inputs, then the losses and the slopes where wanted.
struct loss_operands {
  static constexpr std::size_t most = 4;
  std::array<view, most + 2> views;
  std::size_t inputs = 0, weight = 0;  // weight: the number of the input that the
                                       // loss is multiplied by, or 0
  bool losses = false, slopes = false;

  void add_input(const view& v) { views[inputs++] = v; }
  // After the inputs.
  void add_outputs(const view& of_losses, const view& of_slopes) {
    losses = of_losses.data, slopes = of_slopes.data;
    if (losses) views[inputs] = of_losses;
    if (slopes) views[inputs + losses] = of_slopes;
  }
};

// Runs a loss over its operands, in C order; the slopes are multiplied by `scale`. Returns the sum
// of the losses, 0 where each goes to memory. `run`: brings the threads.
template <class T>
double elementwise_loss(const loss_spec& loss, loss_operands& operands, double scale,
                        chunk_runner run);

// True if every element is in [0, 1] or NaN.
template <class T>
bool all_probabilities(std::array<view, 1> x, chunk_runner run);
// The same of those whose weight is not 0.
template <class T>
bool all_weighted_probabilities(std::array<view, 2> x_and_weight, chunk_runner run);

}  // namespace dlcore
