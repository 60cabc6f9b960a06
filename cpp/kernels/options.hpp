// Options of kernels: numbers, with the values that have a meaning.
#pragma once

#include <cmath>

namespace dlcore {

enum class option_range { number, finite, not_negative, positive, above_zero };

struct kernel_option {
  const char* name;  // null: there is none
  double standard;   // its value where the caller gives none
  option_range range;

  bool accepts(double value) const {
    switch (range) {
      case option_range::number:
        return !std::isnan(value);
      case option_range::finite:
        return std::isfinite(value);
      case option_range::not_negative:
        return std::isfinite(value) && value >= 0;
      case option_range::positive:
        return std::isfinite(value) && value > 0;
      case option_range::above_zero:
        return value > 0;
    }
    __builtin_unreachable();
  }
  // What a value must be, for messages.
  const char* wanted() const {
    switch (range) {
      case option_range::number:
        return "a number and not NaN";
      case option_range::finite:
        return "finite";
      case option_range::not_negative:
        return "finite and at least 0";
      case option_range::positive:
        return "finite and greater than 0";
      case option_range::above_zero:
        return "greater than 0";
    }
    __builtin_unreachable();
  }
};

}  // namespace dlcore
