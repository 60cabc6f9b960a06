#include <cmath>
#include <vector>

#include "kernels/gemm.hpp"
#include "tests/check.hpp"

namespace {

using namespace dlcore;

// C = start + A B^T of matrices with whole numbers, whose sums are exact in any order.
template <class T>
void multiply(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k) {
  std::vector<T> a(m * k), b(n * k), c(m * n, T(-1)), start(n);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = T(int(i * 7 % 11) - 5);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = T(int(i * 5 % 13) - 6);
  for (std::size_t i = 0; i < start.size(); ++i) start[i] = T(int(i % 3));
  constexpr std::ptrdiff_t width = panel_columns<T>;
  std::vector<T> packed(ceil_div(n, width) * width * k + vec<T>::size);
  for (std::ptrdiff_t j = 0; j < n; j += width)
    pack_transposed<T>([&](std::ptrdiff_t r) { return b.data() + (j + r) * k; },
                       std::min(width, n - j), width, k, packed.data() + j * k);
  product<T>(
      m, n, k,
      [&](std::ptrdiff_t i, std::ptrdiff_t rows, std::ptrdiff_t height, std::ptrdiff_t p,
          std::ptrdiff_t terms,
          T* to) { return tile_of_rows<T>(a.data() + i * k + p, k, rows, height, terms, to); },
      [&](std::ptrdiff_t j, std::ptrdiff_t columns, std::ptrdiff_t p, std::ptrdiff_t) {
        return panel<T>{packed.data() + j * k + p * width, width, columns, true};
      },
      c.data(), n, start.data());
  bool same = true;
  for (std::ptrdiff_t i = 0; i < m; ++i)
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      T sum = start[j];
      for (std::ptrdiff_t p = 0; p < k; ++p) sum += a[i * k + p] * b[j * k + p];
      same = same && c[i * n + j] == sum;
    }
  CHECK(same);
}

}  // namespace

void test_gemm() {
  for (const std::ptrdiff_t m : {1, 2, 3, 5, 7, 11, 13, 40, 64, 109, 230})
    for (const std::ptrdiff_t n : {1, 8, 33, 70})
      for (const std::ptrdiff_t k : {0, 1, 19, 300}) {
        multiply<float>(m, n, k);
        multiply<double>(m, n, k);
      }
}
