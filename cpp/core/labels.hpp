// Class indices of any integer type and layout.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/strided_view.hpp"

namespace dlcore {

// Labels of any integer type, read without truncation.
struct index_view {
  view rows;
  int item_size = 8;
  bool is_signed = true;

  // A value beyond int64 reads as the lowest one, which no class and no label is.
  void read(std::ptrdiff_t begin, std::ptrdiff_t n, std::int64_t* to) const {
    with_type([&](auto type) {
      using I = decltype(type);
      for_each_run(rows, begin, n, [&](const char* p, std::ptrdiff_t stride, std::ptrdiff_t run) {
        std::int64_t* const out = to;  // not `to` itself, which would be stored with each label
        const auto copy = [=](std::ptrdiff_t step) {
          for (std::ptrdiff_t i = 0; i < run; ++i) out[i] = value_at<I>(p + i * step);
        };
        if (stride == sizeof(I)) copy(sizeof(I));  // a constant: vectorised
        else copy(stride);
        to += run;
      });
    });
  }
  // Those of some rows, where there is one axis.
  void gather(const std::int64_t* numbers, std::ptrdiff_t n, std::int64_t* to) const {
    with_type([&](auto type) {
      for (std::ptrdiff_t i = 0; i < n; ++i)
        to[i] = value_at<decltype(type)>(rows.data + numbers[i] * rows.strides[0]);
    });
  }

 private:
  template <class F>
  void with_type(const F& f) const {
    switch (item_size * (is_signed ? 1 : -1)) {
      case 1:
        return f(std::int8_t());
      case 2:
        return f(std::int16_t());
      case 4:
        return f(std::int32_t());
      case 8:
        return f(std::int64_t());
      case -1:
        return f(std::uint8_t());
      case -2:
        return f(std::uint16_t());
      case -4:
        return f(std::uint32_t());
      default:
        return f(std::uint64_t());
    }
  }
  template <class I>
  static std::int64_t value_at(const char* p) {
    I value;
    std::memcpy(&value, p, sizeof value);
    const bool beyond = std::is_same_v<I, std::uint64_t> && value > I(INT64_MAX);
    return beyond ? INT64_MIN : std::int64_t(value);
  }
};

}  // namespace dlcore
