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
  const std::size_t count = net_.layers.size();
  size* const sizes = sizes_of(block);
  sizes[count - 1].dy = largest_in(passes_.output_gradients().from(begin), n);
  for (std::size_t l = passes_.lowest(); measures_all_ && l < count; ++l)
    if (net_.layers[l]->learns())
      // The inputs are known, and there is no array of sparse ones.
      sizes[l] = {l == 0 ? sizes[0].x : largest_in(passes_.activations(l).from(begin), n),
                  largest_in(passes_.gradients(l + 1).from(begin), n)};
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
    inputs_[l] = x;
    x = net_.layers[l]->forward_growth(x, parameter_);
  }
  for (std::size_t l = count; l-- > passes_.lowest();) {
    const layer<T>& own = *net_.layers[l];
    if (own.learns()) {
      const size largest = measures_all_ ? largest_size(l) : size{inputs_[l], dy};
      const double gradient = double(n) * std::max(1.0, largest.x) * largest.dy;
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
