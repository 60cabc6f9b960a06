#include "network/ranks.hpp"

#include <algorithm>
#include <cstring>

namespace dlcore {

// A run through what a message has of one rank.
class ranks::cursor {
 public:
  explicit cursor(const std::vector<message::run>& runs) : runs_(runs) {}
  // f(place, bytes) of the next `bytes`, or as many as there are.
  template <class F>
  void each(std::ptrdiff_t bytes, const F& f) {
    while (bytes > 0 && at_ < runs_.size()) {
      const auto& run = runs_[at_];
      const std::ptrdiff_t own = std::min(bytes, run.bytes - begin_);
      f(run.first + begin_, std::size_t(own));
      bytes -= own, begin_ += own;
      if (begin_ == run.bytes) ++at_, begin_ = 0;
    }
  }

 private:
  const std::vector<message::run>& runs_;
  std::size_t at_ = 0;
  std::ptrdiff_t begin_ = 0;
};

void ranks::exchange(const message& m) {
  std::ptrdiff_t most = 0;
  std::vector<cursor> places;
  for (const auto& runs : m.runs_) {
    std::ptrdiff_t bytes = 0;
    for (const auto& run : runs) bytes += run.bytes;
    most = std::max(most, bytes);
    places.emplace_back(runs);
  }
  for (std::ptrdiff_t begin = 0; begin < most; begin += piece_) {
    const std::ptrdiff_t bytes = std::min(piece_, most - begin);
    if (memory_.empty()) own_.resize(std::size_t(bytes)), all_.resize(std::size_t(bytes * size_));
    // Others may read the half before this one still.
    const std::ptrdiff_t half = begin / piece_ % 2 * piece_;
    unsigned char* const own = memory_.empty() ? own_.data() : memory_[rank_] + half;
    unsigned char* to = own;
    places[std::size_t(rank_)].each(bytes, [&](const unsigned char* from, std::size_t n) {
      std::memcpy(to, from, n), to += n;
    });
    gather_(own, all_.data(), bytes);
    for (std::ptrdiff_t rank = 0; rank < size_; ++rank) {
      if (rank == rank_) continue;
      const unsigned char* from =
          memory_.empty() ? all_.data() + rank * bytes : memory_[rank] + half;
      places[std::size_t(rank)].each(bytes, [&](unsigned char* place, std::size_t n) {
        std::memcpy(place, from, n), from += n;
      });
    }
  }
  if (!memory_.empty()) gather_(nullptr, nullptr, 0);  // all have read
}

}  // namespace dlcore
