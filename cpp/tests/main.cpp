// The tests of one instruction-set level; 77, which ctest takes as skipped, where it does not run.
#include <cstring>

#include "tests/check.hpp"

void test_gemm();
void test_labels();
void test_parallel();
void test_simd();
void test_strided_view();

namespace {

bool level_runs() {
#if defined(DLCORE_CAN_CHECK_LEVELS)
  __builtin_cpu_init();
  if (std::strcmp(DLCORE_ISA, "x86-64-v3") == 0) return __builtin_cpu_supports("x86-64-v3") != 0;
  if (std::strcmp(DLCORE_ISA, "x86-64-v4") == 0) return __builtin_cpu_supports("x86-64-v4") != 0;
#endif
  return true;
}

}  // namespace

int main() {
  if (!level_runs()) return 77;
  test_simd();
  test_strided_view();
  test_labels();
  test_parallel();
  test_gemm();
  return failures == 0 ? 0 : 1;
}
