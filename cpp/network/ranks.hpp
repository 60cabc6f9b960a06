// Processes that train one network together, maybe on several machines.
//
// Of a batch each rank computes some blocks of rows, and of an update some parts of the parameters.
// In between all get what the others have computed. Blocks, parts and the order of sums are those
// of one process, so the bits are, too.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "core/parallel.hpp"

namespace dlcore {

class ranks {
 public:
  // Sends `bytes` from `own`; `all` gets those of each rank, one after the other.
  using gather_function =
      std::function<void(unsigned char* own, unsigned char* all, std::ptrdiff_t bytes)>;

  ranks() = default;  // one by itself
  // What a message costs, and a byte of it, in nanoseconds of the threads of a rank.
  ranks(std::ptrdiff_t rank, std::ptrdiff_t size, double message, double byte)
      : rank_(rank), size_(size), message_(message), byte_(byte) {}

  std::ptrdiff_t rank() const { return rank_; }
  std::ptrdiff_t size() const { return size_; }
  void set_gather(gather_function gather) { gather_ = std::move(gather); }
  // Memory of so many bytes of each rank, which all of them read: a gather then is a meeting of
  // all, after which the others may read what each has written.
  void set_memory(std::vector<unsigned char*> memory, std::ptrdiff_t bytes) {
    memory_ = std::move(memory), piece_ = bytes / 2;
  }
  // Whether work of so many nanoseconds pays for two messages of so many bytes together.
  bool pays(double nanoseconds, double bytes) const {
    return size_ > 1 && nanoseconds * (1 - 1 / double(size_)) > 2 * message_ + byte_ * bytes;
  }
  // The first of so many chunks that a rank computes; the rest begins with the next rank's.
  std::ptrdiff_t begin_of(std::ptrdiff_t chunks, std::ptrdiff_t rank) const {
    return chunks * rank / size_;
  }
  std::ptrdiff_t begin_of(const dealt& chunks, std::ptrdiff_t rank) const {
    return chunks(int(rank), int(size_));
  }

  // Memory that ranks have filled, each its own, at the same places on all of them.
  class message {
   public:
    explicit message(const ranks& between) : runs_(between.size()) {}
    template <class T>
    void add(std::ptrdiff_t owner, T* first, std::ptrdiff_t count) {
      if (count > 0)
        runs_[owner].push_back(
            {reinterpret_cast<unsigned char*>(first), count * std::ptrdiff_t(sizeof(T))});
    }

   private:
    friend class ranks;
    struct run {
      unsigned char* first;
      std::ptrdiff_t bytes;
    };
    std::vector<std::vector<run>> runs_;  // by rank
  };
  // Brings all that a message is about to all ranks.
  void exchange(const message& m);

 private:
  class cursor;
  std::ptrdiff_t rank_ = 0, size_ = 1;
  double message_ = 0, byte_ = 0;
  gather_function gather_;
  std::ptrdiff_t piece_ = 1 << 19;  // bytes of a rank that go at a time: the caches hold them
  std::vector<unsigned char> own_, all_;
  std::vector<unsigned char*> memory_;
};

}  // namespace dlcore
