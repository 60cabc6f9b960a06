#include "network/finite_bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dlcore {

namespace {

// The largest absolute value in rows; with what lies between them, which is 0, unless these are
// columns of a wider matrix.
template <class T>
double largest_in(rows_of<T> rows, std::ptrdiff_t n, std::ptrdiff_t width, bool is_whole) {
  largest_of<T> largest;
  if (is_whole) largest.take(rows.first, n * rows.step);
  else
    for (std::ptrdiff_t r = 0; r < n; ++r) largest.take(rows.row(r), width);
  return largest.value();
}

}  // namespace

template <class T>
double finite_bounds<T>::largest_input(std::size_t l, std::ptrdiff_t begin,
                                       std::ptrdiff_t n) const {
  const std::size_t node = net_.sources[l];
  return largest_in(passes_.inputs_of(l, begin), n * net_.copies_at(node), net_.width_of(node),
                    net_.is_whole(net_.values_of(node), node));
}

template <class T>
double finite_bounds<T>::largest_gradient_of(std::size_t l, std::ptrdiff_t begin,
                                             std::ptrdiff_t n) const {
  return largest_in(passes_.gradients_of(l, begin), n * net_.copies_at(l + 1), net_.width_of(l + 1),
                    net_.is_whole(net_.gradients_of(l + 1), l + 1));
}

template <class T>
void finite_bounds<T>::measure(std::ptrdiff_t block, std::ptrdiff_t begin, std::ptrdiff_t n) {
  const std::size_t last = net_.layers.size() - 1;
  sizes_of(block)[last].dy = largest_gradient_of(last, begin, n);
  if (!passes_.waits_for_batch()) measure_layers(block, begin, n);
}

template <class T>
void finite_bounds<T>::measure_batch(std::ptrdiff_t n, ranks* between) {
  if (!measures_all_ || !passes_.waits_for_batch()) return;
  const std::ptrdiff_t size = net_.block_of(n), blocks = ceil_div(n, size);
  const std::ptrdiff_t begin = between ? between->begin_of(blocks, between->rank()) : 0;
  const std::ptrdiff_t end = between ? between->begin_of(blocks, between->rank() + 1) : blocks;
  step_region(end - begin, net_.cost() * double(n) / 20, [&](std::ptrdiff_t i) {
    const std::ptrdiff_t block = begin + i;
    measure_layers(block, block * size, std::min(size, n - block * size));
  });
}

template <class T>
void finite_bounds<T>::add_sizes(ranks::message& m, std::ptrdiff_t blocks, const ranks& between) {
  for (std::ptrdiff_t rank = 0; rank < between.size(); ++rank) {
    const std::ptrdiff_t begin = between.begin_of(blocks, rank);
    const std::ptrdiff_t end = between.begin_of(blocks, rank + 1);
    m.add(rank, sizes_of(begin), (end - begin) * std::ptrdiff_t(net_.layers.size()));
  }
}

template <class T>
void finite_bounds<T>::measure_layers(std::ptrdiff_t block, std::ptrdiff_t begin,
                                      std::ptrdiff_t n) {
  size* const sizes = sizes_of(block);
  for (std::size_t l = 0; measures_all_ && l < net_.layers.size(); ++l) {
    if (!is_measured(l)) continue;
    // The inputs are known, and there is no array of sparse ones.
    if (l > 0) sizes[l].x = largest_input(l, begin, n);
    if (!net_.layers[l]->dx_over_dy) sizes[l].dy = largest_gradient_of(l, begin, n);
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
  double most = 0;
  inputs_.resize(count);
  values_.assign(count + 1, 0), gradients_.assign(count + 1, 0);  // bounds, by node
  values_[0] = largest_size(0).x, gradients_[count] = largest_size(count - 1).dy;
  for (std::size_t l = 0; l < count; ++l) {
    const layer<T>& own = *net_.layers[l];
    const double x = is_measured(l) ? largest_size(l).x : values_[net_.sources[l]];
    inputs_[l] = x;
    values_[l + 1] = x <= own.largest_input ? own.forward_growth(x, parameter_) : HUGE_VAL;
    if (net_.ends_at(l).empty()) continue;
    values_[l + 1] = 0;
    for (const std::size_t end : net_.ends_at(l)) values_[l + 1] += values_[end];
  }
  for (std::size_t l = count; l-- > 0;) {
    if (!passes_.reaches(l)) continue;
    const layer<T>& own = *net_.layers[l];
    if (!(inputs_[l] <= own.largest_input)) return HUGE_VAL;
    const double dy = is_measured(l) && !own.dx_over_dy ? largest_size(l).dy : gradients_[l + 1];
    if (own.learns()) {
      const double factor = own.gradient_growth(inputs_[l], parameter_);
      const double gradient = double(n * net_.copies_at(l + 1)) * std::max(1.0, factor) * dy;
      // An infinite x times a gradient of 0 is NaN, and so is the result.
      if (!(gradient <= most)) most = gradient == gradient ? gradient : HUGE_VAL;
    }
    for (const std::size_t end : net_.ends_at(l)) gradients_[end] += dy;
    if (net_.ends_at(l).empty()) gradients_[net_.sources[l]] += own.backward_growth(dy, parameter_);
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
