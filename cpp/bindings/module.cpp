// The extension module, a table of contents. Compiled once for each instruction-set level.
//
// Python sees these functions through the thin wrappers of python/dlcore; signatures: _core.pyi.
#include <pybind11/pybind11.h>

#include "core/parallel.hpp"
#include "simd/vec.hpp"

namespace dlcore {

namespace py = pybind11;

void bind_math(py::module_&);
void bind_activations(py::module_&);
void bind_softmax(py::module_&);
void bind_probabilities(py::module_&);
void bind_losses(py::module_&);
void bind_cross_entropy(py::module_&);
void bind_optimizers(py::module_&);
void bind_columns(py::module_&);
void bind_linear(py::module_&);
void bind_normalization(py::module_&);
void bind_sparse(py::module_&);
void bind_network(py::module_&);
void bind_passes(py::module_&);

namespace {

const char* compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

void bind_settings(py::module_& m) {
  m.attr("isa") = DLCORE_ISA;
  m.attr("version") = DLCORE_VERSION;
  m.attr("compiler") = compiler();
  m.attr("openmp") = has_openmp();
  m.attr("register_bytes") = register_bytes;
  m.attr("can_flush_denormals") = can_flush_subnormals;
  m.def("get_num_threads", num_threads);
  m.def("set_default_num_threads", set_default_num_threads, py::arg("n"));
  m.def("set_num_threads", set_num_threads, py::arg("n"));
  m.def("process_num_threads", process_num_threads);
  m.def("exchange_own_num_threads", exchange_own_num_threads, py::arg("n"));
  m.def("num_processors", num_processors);
  m.def("thread_limit", thread_limit);
  m.def("exchange_flushing", exchange_flushing, py::arg("flush"));
}

}  // namespace

}  // namespace dlcore

// What calls have in common is locked or atomic: without the GIL they run at the same time.
PYBIND11_MODULE(DLCORE_MODULE, m, pybind11::mod_gil_not_used()) {
  dlcore::bind_settings(m);
  dlcore::bind_math(m);
  dlcore::bind_activations(m);
  dlcore::bind_softmax(m);
  dlcore::bind_probabilities(m);
  dlcore::bind_losses(m);
  dlcore::bind_cross_entropy(m);
  dlcore::bind_optimizers(m);
  dlcore::bind_columns(m);
  dlcore::bind_linear(m);
  dlcore::bind_normalization(m);
  dlcore::bind_sparse(m);
  dlcore::bind_network(m);
  dlcore::bind_passes(m);
}
