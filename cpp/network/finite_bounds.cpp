#include "network/finite_bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dlcore {

namespace {

// With what lies between the rows, which is 0.
template <class T>
double largest_in(rows_of<T> rows, std::ptrdiff_t n) {
  largest_of<T> largest;
  largest.take(rows.first, n * rows.step);
  return largest.value();
}

}  // namespace

template <class T>
void finite_bounds<T>::measure(std::ptrdiff_t block, std::ptrdiff_t begin, std::ptrdiff_t n) {
  sizes_of(block)[net_.layers.size() - 1].dy =
      largest_in(passes_.output_gradients().from(begin), n);
  if (!passes_.waits_for_batch()) measure_layers(block, begin, n);
}

template <class T>
void finite_bounds<T>::measure_batch(std::ptrdiff_t n) {
  if (!measures_all_ || !passes_.waits_for_batch()) return;
  const std::ptrdiff_t size = block_of(n);
  step_region(ceil_div(n, size), net_.cost() * double(n) / 20, [&](std::ptrdiff_t block) {
    measure_layers(block, block * size, std::min(size, n - block * size));
  });
}

template <class T>
void finite_bounds<T>::measure_layers(std::ptrdiff_t block, std::ptrdiff_t begin,
                                      std::ptrdiff_t n) {
  size* const sizes = sizes_of(block);
  for (std::size_t l = passes_.lowest(); measures_all_ && l < net_.layers.size(); ++l) {
    const layer<T>& own = *net_.layers[l];
    if (!is_measured(own)) continue;
    // The inputs are known, and there is no array of sparse ones.
    if (l > 0) sizes[l].x = largest_in(passes_.activations(l).from(begin), n);
    if (!own.dx_over_dy) sizes[l].dy = largest_in(passes_.gradients(l + 1).from(begin), n);
  }
}

template <class T>
void finite_bounds<T>::measure_parameters(const std::vector<trained_parameter<T>>& parameters,
                                          const optimizer& by) {
  parameters_are_bounded_ = true;
  parameter_ = reach_ = 0;
  for (const auto& l : net_.layers)
    l->each_parameter([&](const tensor<T>& p) {
      largest_of<T> largest;
      largest.take(p.value, p.size);
      parameter_ = std::max(parameter_, largest.value());
    });
  for (const trained_parameter<T>& p : parameters) reach_ = std::max(reach_, by.reach(p));
}

// The largest absolute values of a layer in all blocks.
template <class T>
auto finite_bounds<T>::largest_size(std::size_t l) const -> size {
  size largest;
  for (std::size_t i = l; i < sizes_.size(); i += net_.layers.size()) {
    largest.x = std::max(largest.x, sizes_[i].x);
    largest.dy = std::max(largest.dy, sizes_[i].dy);
  }
  return largest;
}

// The largest that a gradient can be, by what inputs and gradients are, or can grow to on their
// way.
template <class T>
double finite_bounds<T>::largest_gradient(std::ptrdiff_t n) {
  const std::size_t count = net_.layers.size();
  double x = largest_size(0).x, dy = largest_size(count - 1).dy, most = 0;
  inputs_.resize(count);
  for (std::size_t l = 0; l < count; ++l) {
    const layer<T>& own = *net_.layers[l];
    if (l >= passes_.lowest() && is_measured(own)) x = largest_size(l).x;
    inputs_[l] = x;
    x = x <= own.largest_input ? own.forward_growth(x, parameter_) : HUGE_VAL;
  }
  for (std::size_t l = count; l-- > passes_.lowest();) {
    const layer<T>& own = *net_.layers[l];
    if (!(inputs_[l] <= own.largest_input)) return HUGE_VAL;
    if (is_measured(own) && !own.dx_over_dy) dy = largest_size(l).dy;
    if (own.learns()) {
      const double factor = own.gradient_growth(inputs_[l], parameter_);
      const double gradient = double(n) * std::max(1.0, factor) * dy;
      // An infinite x times a gradient of 0 is NaN, and so is the result.
      if (!(gradient <= most)) most = gradient == gradient ? gradient : HUGE_VAL;
    }
    dy = own.backward_growth(dy, parameter_);
  }
  return most;
}

template <class T>
bool finite_bounds<T>::stays_finite(const optimizer& by, std::ptrdiff_t n) {
  constexpr double limit = double(std::numeric_limits<T>::max()) / 1e6;
  double gradient = largest_gradient(n);
  parameters_are_bounded_ = gradient < limit;
  if (parameters_are_bounded_) {
    by.bound<T>(gradient, reach_, parameter_);
    parameters_are_bounded_ = gradient < limit && reach_ < limit && parameter_ < limit;
  }
  if (!parameters_are_bounded_) measures_all_ = true;  // from the next step on
  return parameters_are_bounded_;
}

template class finite_bounds<float>;
template class finite_bounds<double>;

}  // namespace dlcore
