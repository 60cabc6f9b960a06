#include "core/register_array.hpp"

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dlcore {

namespace {

constexpr std::size_t line = 64, large_page = std::size_t(2) << 20;

std::align_val_t alignment(std::size_t bytes) {
  return std::align_val_t(bytes >= large_page ? large_page : line);
}

}  // namespace

void* allocate_pages(std::size_t bytes) {
  void* const memory = ::operator new(bytes, alignment(bytes));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // An advice: where it is not taken, the pages are small.
  if (bytes >= large_page) madvise(memory, bytes / large_page * large_page, MADV_HUGEPAGE);
#endif
  return memory;
}

void release_pages(void* memory, std::size_t bytes) noexcept {
  ::operator delete(memory, alignment(bytes));
}

}  // namespace dlcore
