// Which instruction-set levels this processor and operating system run. Baseline code: imported
// first.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_cpu, m) {
  // The level's name is the compiler's: the check and the -march flag cannot disagree.
  m.def(
      "supports",
      [](const char* isa) {
        const auto is = [isa](const char* name) { return __builtin_strcmp(isa, name) == 0; };
#if defined(DLCORE_CAN_CHECK_LEVELS)
        __builtin_cpu_init();
        if (is("x86-64-v3")) return __builtin_cpu_supports("x86-64-v3") != 0;
        if (is("x86-64-v4")) return __builtin_cpu_supports("x86-64-v4") != 0;
#endif
        return is("x86-64") || is("aarch64") || is("generic");
      },
      pybind11::arg("isa"));
}
