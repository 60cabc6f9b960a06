// The update of a training step: an optimizer over parts of the parameters.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>
#include <vector>

#include "kernels/optimizers.hpp"
#include "network/rows.hpp"

namespace dlcore {

// A parameter that is trained, with its state (null where its optimizer keeps none), its group of
// options, and unless null the running average of its values.
template <class T>
struct trained_parameter {
  tensor<T>* of;
  std::array<T*, 3> state;
  std::size_t group;
  T* average;

  // f(array) of each one that the optimizer keeps, and of the average.
  template <class F>
  void each_state(const F& f) const {
    for (T* const own : state)
      if (own) f(own);
    if (average) f(average);
  }
  bool operator==(const trained_parameter& other) const {
    return of == other.of && state == other.state && group == other.group &&
           average == other.average;
  }
};

class optimizer {
 public:
  // Options of some parameters, the steps that were made with them, and the L2 penalty on them that
  // is part of the loss: half of it times the sum of their squares, divided by the normalizer of
  // the batch.
  struct group {
    std::variant<sgd, adam> options;
    double steps, weight_decay, penalty;

    group(const std::variant<sgd, adam>& options, double steps, double penalty)
        : options(options),
          steps(steps),
          weight_decay(std::visit([](const auto& o) { return o.weight_decay; }, options)),
          penalty(penalty) {}
  };
  std::vector<group> groups;
  double clip_value = 0;     // the largest absolute gradient; 0: any
  double average_decay = 0;  // of the running averages

  void set_learning_rates(const double* rates) {
    for (group& g : groups) std::visit([&](auto& o) { o.lr = *rates++; }, g.options);
  }
  // Makes ready for the step of that number in this epoch, counted from 1.
  void begin_step(double number, double normalizer);
  void end_step() {
    for (group& g : groups)
      if (auto* s = std::get_if<sgd>(&g.options)) s->first = false;
  }
  bool penalizes() const {
    return std::any_of(groups.begin(), groups.end(), [](const group& g) { return g.penalty > 0; });
  }
  template <class T>
  bool penalizes(const trained_parameter<T>& p) const {
    return groups[p.group].penalty > 0;
  }

  // Updates elements with the gradients from `gradient` on, which count `factor` times.
  template <class T>
  void apply(const trained_parameter<T>& p, T* gradient, std::ptrdiff_t begin, std::ptrdiff_t end,
             T factor = 1) const;
  // Updates elements, whose gradients count `factor` times, and keeps their values in `before`.
  // Whether the new ones are finite.
  template <class T>
  bool apply_guarded(const trained_parameter<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end,
                     T factor, T* before) const;
  // Moves the averages of elements towards their new values.
  template <class T>
  void average(const trained_parameter<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end) const;

  // What bounds the next steps of a state: of SGD the largest momentum; of Adam, of which no
  // gradient makes a long step, the largest ratio of the mean to the root of the mean of squares.
  template <class T>
  double reach(const trained_parameter<T>& p) const;
  // Given the largest absolute values of the gradient and the parameters, and the reach: the
  // largest that they can be after a step.
  template <class T>
  void bound(double& gradient, double& reach, double& parameter) const;
  // Whether the bound on the parameters is close enough to follow what grows with them.
  bool has_close_bound() const { return std::holds_alternative<adam>(groups[0].options); }

 private:
  template <class T>
  void clip(T* gradient, std::ptrdiff_t n) const;
  // f(options, arrays of state...)
  template <class T, class F>
  auto with_state(const trained_parameter<T>& p, const F& f) const;
};

}  // namespace dlcore
