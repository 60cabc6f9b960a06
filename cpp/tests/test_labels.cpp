#include <cstdint>
#include <limits>
#include <vector>

#include "core/labels.hpp"
#include "tests/check.hpp"

namespace {

using namespace dlcore;

// The lowest and the largest value of a type, and some between, `step` apart in memory.
template <class I>
void read_type(std::ptrdiff_t step) {
  const std::vector<I> values{0, 1, 5, std::numeric_limits<I>::min(),
                              std::numeric_limits<I>::max()};
  const auto n = std::ptrdiff_t(values.size());
  std::vector<I> memory(n * step, I(99));
  for (std::ptrdiff_t i = 0; i < n; ++i) memory[i * step] = values[i];
  index_view labels;
  labels.item_size = sizeof(I);
  labels.is_signed = std::is_signed_v<I>;
  labels.rows.data = reinterpret_cast<char*>(memory.data());
  labels.rows.ndim = 1;
  labels.rows.shape[0] = n;
  labels.rows.strides[0] = step * std::ptrdiff_t(sizeof(I));
  std::vector<std::int64_t> read(n);
  labels.read(0, n, read.data());
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const bool beyond = std::is_same_v<I, std::uint64_t> && values[i] > I(INT64_MAX);
    CHECK(read[i] == (beyond ? INT64_MIN : std::int64_t(values[i])));
  }
  const std::int64_t numbers[] = {2, 0};
  labels.gather(numbers, 2, read.data());
  CHECK(read[0] == 5 && read[1] == 0);
}

template <class... I>
void read_types() {
  (read_type<I>(1), ...);
  (read_type<I>(3), ...);
}

}  // namespace

void test_labels() {
  read_types<std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t, std::uint16_t,
             std::uint32_t, std::uint64_t>();
}
