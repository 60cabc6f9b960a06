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
  // f(own, other) of each of its arrays and each of the other ones that have an address in common.
  // Both must be in order.
  template <class F>
  void each_meeting(const array_spans& others, const F& f) const {
    std::size_t first = 0;
    for (const span& own : spans_) {
      while (first < others.spans_.size() && others.reach_[first] <= own.low) ++first;
      for (std::size_t i = first; i < others.spans_.size() && others.spans_[i].low < own.high; ++i)
        if (others.spans_[i].high > own.low) f(own.number, others.spans_[i].number);
    }
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
