// Bounds on the numbers of an update, by which it can only give finite ones.
//
// An update that is made part by part, as soon as the gradient of a part is there, cannot be taken
// back: that it stays finite has to be known beforehand. Bounds follow from the largest absolute
// values of the inputs, the output gradients and the parameters, and from what each layer and the
// optimizer can make of them.
#pragma once

#include <vector>

#include "network/optimizer.hpp"
#include "network/passes.hpp"

namespace dlcore {

template <class T>
class finite_bounds {
 public:
  finite_bounds(const network<T>& net, const passes<T>& of) : net_(net), passes_(of) {}

  void begin_epoch(const optimizer& by) {
    forget();
    measures_all_ = !by.has_close_bound();
  }
  // The parameters change in a way that bounds do not follow.
  void forget() { parameters_are_bounded_ = false; }

  void begin_batch(std::ptrdiff_t blocks) { sizes_.assign(blocks * net_.layers.size(), {}); }
  // What is known of a block: the largest absolute input, and after its way back the rest, which
  // may end when that of the whole batch of n rows does.
  void set_input(std::ptrdiff_t block, double largest) { sizes_of(block)->x = largest; }
  void measure(std::ptrdiff_t block, std::ptrdiff_t begin, std::ptrdiff_t n);
  void measure_batch(std::ptrdiff_t n, ranks* between = nullptr);
  // What is known of the blocks of each rank.
  void add_sizes(ranks::message& m, std::ptrdiff_t blocks, const ranks& between);
  void measure_parameters(const std::vector<trained_parameter<T>>& parameters, const optimizer& by);
  bool parameters_are_bounded() const { return parameters_are_bounded_; }

  // Whether an update from n rows can only give finite numbers.
  bool stays_finite(const optimizer& by, std::ptrdiff_t n);

 private:
  struct size {
    double x = 0, dy = 0;  // the largest absolute values in a block; inf for NaN
  };
  const network<T>& net_;
  const passes<T>& passes_;
  std::vector<size> sizes_;                 // by block and layer
  std::vector<double> inputs_;              // bounds on the inputs of the layers
  std::vector<double> values_, gradients_;  // and on what lies at the nodes
  bool measures_all_ = false;               // else the inputs and the output gradients alone
  bool parameters_are_bounded_ = false;
  double parameter_ = 0, reach_ = 0;  // the largest parameter, and the optimizer's `reach`

  size* sizes_of(std::ptrdiff_t block) { return sizes_.data() + block * net_.layers.size(); }
  size largest_size(std::size_t l) const;
  void measure_layers(std::ptrdiff_t block, std::ptrdiff_t begin, std::ptrdiff_t n);
  bool is_measured(std::size_t l) const {
    const layer<T>& own = *net_.layers[l];
    return measures_all_ && passes_.reaches(l) && (own.learns() || own.largest_input < HUGE_VAL);
  }
  double largest_input(std::size_t l, std::ptrdiff_t begin, std::ptrdiff_t n) const;
  double largest_gradient_of(std::size_t l, std::ptrdiff_t begin, std::ptrdiff_t n) const;
  double largest_gradient(std::ptrdiff_t n);
};

}  // namespace dlcore
