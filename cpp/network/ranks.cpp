#include "network/ranks.hpp"

#include <algorithm>
#include <cstring>

namespace dlcore {

void ranks::exchange(const message& m) {
  std::ptrdiff_t most = 0;
  for (const auto& runs : m.runs_) {
    std::ptrdiff_t bytes = 0;
    for (const auto& run : runs) bytes += run.bytes;
    most = std::max(most, bytes);
  }
  if (most == 0) return;
  own_.resize(std::size_t(most)), all_.resize(std::size_t(most * size_));
  unsigned char* to = own_.data();
  for (const auto& run : m.runs_[std::size_t(rank_)])
    std::memcpy(to, run.first, std::size_t(run.bytes)), to += run.bytes;
  gather_(own_.data(), all_.data(), most);
  // As fast as memory is.
  parallel_for(size_, double(most * size_) / 10, [&](std::ptrdiff_t rank) {
    if (rank == rank_) return;
    const unsigned char* from = all_.data() + rank * most;
    for (const auto& run : m.runs_[std::size_t(rank)])
      std::memcpy(run.first, from, std::size_t(run.bytes)), from += run.bytes;
  });
}

}  // namespace dlcore
