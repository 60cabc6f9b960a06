// The updates that rows of a table have skipped, since no batch had them, made up for all at once.
//
// Without a gradient an optimizer goes on by what it remembers: Adam's mean and SGD's momentum move
// a parameter, less with every update. Made up for in the order in which they were due, updates
// give the bits that they would have given then; once they no longer move the parameter, all
// further ones are a power.
#pragma once

#include <vector>

#include "network/optimizer.hpp"

namespace dlcore {

template <class T>
class skipped_updates {
 public:
  // Whether updates of this parameter can be made up for: nothing pulls on it but its gradient,
  // and what the optimizer remembers fades.
  static bool suits(const optimizer& by, const trained_parameter<T>& p);

  // How many updates there were.
  std::ptrdiff_t count() const { return std::ptrdiff_t(steps_.size()); }
  void clear() { steps_.clear(), largest_ = 0, ends_ = true; }
  // Keeps an update that is being made.
  void record(const optimizer& by, std::size_t group);
  // Makes up for all updates from the given one on, for elements [begin, end).
  void make_up(const trained_parameter<T>& p, std::ptrdiff_t begin, std::ptrdiff_t end,
               std::ptrdiff_t first) const;

 private:
  struct step {
    T rate;                 // Adam's step size, SGD's learning rate
    T correction, inverse;  // of Adam's root
    T least;                // of the corrected root
    T momentum;             // of SGD
    T shrink;               // what parameters are multiplied by
    double shrinks;         // the logarithm of the product of these up to this update
  };
  std::vector<step> steps_;
  T largest_ = 0;     // rate
  bool ends_ = true;  // what is left of skipped updates is a power: no factor was 0 or below

  void make_up(const adam& by, const trained_parameter<T>& p, std::ptrdiff_t begin,
               std::ptrdiff_t end, std::ptrdiff_t first) const;
  void make_up(const sgd& by, const trained_parameter<T>& p, std::ptrdiff_t begin,
               std::ptrdiff_t end, std::ptrdiff_t first) const;
  std::variant<sgd, adam> options_;
};

}  // namespace dlcore
