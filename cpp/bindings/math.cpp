#include "simd/math.hpp"

#include "bindings/elementwise.hpp"

namespace dlcore {

namespace {

using py::arg;
using py::object;

// The functions of math.hpp by themselves, for their tests.
template <class F>
void bind_function(py::module_& m, const char* name, F f) {
  const auto run = [name, f](const object& x, const object& out) {
    return map_unary(name, x, out, 1.0, [f](auto* to, auto n, auto ahead, auto from) {
      map_run(f, to, n, ahead, from[0]);
    });
  };
  m.def(name, run, arg("x"), arg("out"));
}

}  // namespace

void bind_math(py::module_& m) {
  bind_function(m, "exp", [](auto x) { return exp(x); });
  bind_function(m, "expm1", [](auto x) { return expm1(x); });
  bind_function(m, "log", [](auto x) { return log(x); });
  bind_function(m, "log1p", [](auto x) { return log1p(x); });
  bind_function(m, "normal_cdf", [](auto x) { return normal_cdf(x, normal_exponential(x)); });
}

}  // namespace dlcore
