#include <array>
#include <vector>

#include "core/strided_view.hpp"
#include "tests/check.hpp"

namespace {

using namespace dlcore;

view matrix(float* first, std::ptrdiff_t rows, std::ptrdiff_t columns, std::ptrdiff_t row_step,
            std::ptrdiff_t column_step) {
  const std::ptrdiff_t item = sizeof(float);
  view v;
  v.data = reinterpret_cast<char*>(first);
  v.ndim = 2;
  v.shape[0] = rows, v.shape[1] = columns;
  v.strides[0] = row_step * item, v.strides[1] = column_step * item;
  return v;
}

}  // namespace

void test_strided_view() {
  constexpr std::ptrdiff_t rows = 5, columns = 7;
  std::vector<float> memory(rows * columns);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = float(i);

  std::array<view, 1> whole{matrix(memory.data(), rows, columns, columns, 1)};
  collapse(whole);
  CHECK(whole[0].ndim == 1 && whole[0].shape[0] == rows * columns);
  CHECK(sequence<float>(whole[0]).direct());

  // Backwards along the rows: element (r, c) is (rows - 1 - r, c).
  std::array<view, 1> backwards{
      matrix(memory.data() + (rows - 1) * columns, rows, columns, -columns, 1)};
  collapse(backwards);
  CHECK(backwards[0].ndim == 2);
  const sequence<float> in(backwards[0]);
  CHECK(!in.direct());
  float buffer[8];
  for (std::ptrdiff_t begin = 0; begin + 8 <= rows * columns; ++begin) {
    const float* p = in.read(begin, 8, buffer);
    for (std::ptrdiff_t i = 0; i < 8; ++i) {
      const std::ptrdiff_t r = (begin + i) / columns, c = (begin + i) % columns;
      CHECK(p[i] == memory[(rows - 1 - r) * columns + c]);
    }
  }

  // What is written goes home: the transpose of a matrix.
  std::vector<float> transposed(rows * columns, -1.0f);
  std::array<view, 1> to{matrix(transposed.data(), rows, columns, 1, rows)};
  collapse(to);
  scatter<float>(to[0], 0, rows * columns, memory.data());
  for (std::ptrdiff_t r = 0; r < rows; ++r)
    for (std::ptrdiff_t c = 0; c < columns; ++c)
      CHECK(transposed[c * rows + r] == memory[r * columns + c]);
}
