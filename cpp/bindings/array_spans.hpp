// Where many arrays lie: those that reach into each other are found without comparing all of them.
#pragma once

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"

namespace dlcore {

class array_spans {
 public:
  // The addresses [low, high) of an array, by its number.
  void add(const char* low, const char* high, std::ptrdiff_t number) {
    spans_.push_back({low, high, number});
  }
  void reserve(std::size_t n) { spans_.reserve(n); }
  // Whether no two of them have an address in common. To be called after `order`.
  bool are_apart() const {
    for (std::size_t i = 1; i < spans_.size(); ++i)
      if (spans_[i].low < reach_[i - 1]) return false;
    return true;
  }
  // f(number) of each array that has an address in [low, high). To be called after `order`.
  template <class F>
  void each_meeting(const char* low, const char* high, const F& f) const {
    auto i = std::partition_point(spans_.begin(), spans_.end(),
                                  [&](const span& s) { return s.low < high; }) -
             spans_.begin();
    while (i-- > 0 && reach_[i] > low)
      if (spans_[i].high > low) f(spans_[i].number);
  }
  void order() {
    const auto before = [](const span& a, const span& b) { return a.low < b.low; };
    if (!std::is_sorted(spans_.begin(), spans_.end(), before))
      std::sort(spans_.begin(), spans_.end(), before);
    reach_.clear();
    reach_.reserve(spans_.size());
    for (const span& s : spans_)
      reach_.push_back(reach_.empty() ? s.high : std::max(reach_.back(), s.high));
  }

 private:
  struct span {
    const char *low, *high;
    std::ptrdiff_t number;
  };
  std::vector<span> spans_;
  std::vector<const char*> reach_;  // the end of all arrays up to each
};

}  // namespace dlcore
