// Which instruction-set levels this processor and operating system run. Baseline code: imported
// first, and so small that pybind11 would be most of it.
#include <Python.h>

#include <cstring>

namespace {

bool runs(const char* isa) {
  const auto is = [isa](const char* name) { return std::strcmp(isa, name) == 0; };
#if defined(DLCORE_CAN_CHECK_LEVELS)
  // The level's name is the compiler's: the check and the -march flag cannot disagree.
  __builtin_cpu_init();
  if (is("x86-64-v3")) return __builtin_cpu_supports("x86-64-v3") != 0;
  if (is("x86-64-v4")) return __builtin_cpu_supports("x86-64-v4") != 0;
#endif
  return is("x86-64") || is("x86-64-reproducible") || is("aarch64") || is("aarch64-reproducible") ||
         is("generic");
}

PyObject* supports(PyObject*, PyObject* isa) {
  const char* name = PyUnicode_AsUTF8(isa);
  return name ? PyBool_FromLong(runs(name)) : nullptr;
}

PyMethodDef methods[] = {{"supports", supports, METH_O, "Whether level `isa` runs here."}, {}};
PyModuleDef_Slot slots[] = {
#if defined(Py_mod_gil)
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cpu", nullptr, 0, methods, slots, {}, {}, {}};

}  // namespace

PyMODINIT_FUNC PyInit__cpu() { return PyModuleDef_Init(&module); }
