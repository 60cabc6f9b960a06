// The common norm of several arrays, and the factor that limits it.
#pragma once

#include "core/parallel.hpp"
#include "core/strided_view.hpp"

namespace dlcore {

struct float_view {
  view elements;
  bool is_double;
};

// root * scale: the norm of finite numbers may itself leave the range of double.
struct scaled_norm {
  double root, scale;

  double value() const { return root * scale; }
  // What the elements are to be multiplied by for a norm of at most `most`: PyTorch's
  // most / (norm + 1e-6), at most 1. NaN of a NaN norm.
  double limited_to(double most) const;
};

// (sum |x|^p)^(1/p) over all elements of `count` arrays; p = inf: the largest |x|. NaN if one is.
scaled_norm norm_of(std::ptrdiff_t count, function_ref<float_view(std::ptrdiff_t)> array, double p,
                    chunk_runner run);

}  // namespace dlcore
