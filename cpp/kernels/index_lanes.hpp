// Class indices of a register of rows.
#pragma once

#include <cstdint>

#include "simd/vec.hpp"

namespace dlcore {

// Ignored rows read as class 0 and are masked.
template <class T>
struct index_lanes {
  vec<int_of<T>> lanes;  // the labels, as far as they go
  mask<T> ignored;

  // From w labels. `valid` takes them with 0 where they are ignored.
  void read(const std::int64_t* labels, std::ptrdiff_t ignore_index, std::int64_t* valid) {
    vec<std::int64_t> label[wide_parts<T>], skip[wide_parts<T>];
    for (int part = 0; part < wide_parts<T>; ++part) {
      const std::ptrdiff_t at = part * vec<std::int64_t>::size;
      label[part] = load(labels + at);
      skip[part] = label[part] == vec<std::int64_t>(ignore_index);
      label[part] = label[part] & ~skip[part];
      if (valid) store(valid + at, label[part]);
    }
    lanes = narrow_lanes<T>(label);
    ignored = narrow_lanes<T>(skip);
  }
};

}  // namespace dlcore
