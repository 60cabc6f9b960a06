// Functions of a few positional arguments, called without pybind11's dispatcher: that looks through
// overloads, names and casters for half a microsecond, as long as a kernel takes over 5000
// elements; this takes a tenth of it. Exceptions are translated as pybind11's are.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "bindings/arrays.hpp"

namespace dlcore {

// Arguments from Python's objects: handles as they are, lists, numbers and flags checked.
template <class A>
inline A argument_from(PyObject* object) {
  if constexpr (std::is_same_v<A, bool>) {
    const int flag = PyObject_IsTrue(object);
    if (flag < 0) throw py::error_already_set();
    return flag != 0;
  } else if constexpr (std::is_same_v<A, std::ptrdiff_t>) {
    const Py_ssize_t number = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
    return number;
  } else if constexpr (std::is_same_v<A, double>) {
    const double number = PyFloat_AsDouble(object);
    if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
    return number;
  } else if constexpr (std::is_same_v<A, py::list>) {
    if (!PyList_Check(object)) throw py::type_error("a list is expected");
    return py::reinterpret_borrow<py::list>(object);
  } else {
    static_assert(std::is_same_v<A, py::handle>);
    return object;
  }
}

template <class F, class Result, class... Args>
class fast_call {
 public:
  // As an attribute of the module; it lives as long as the process.
  static void define(py::module_& m, const char* name, const F& f) {
    auto* own = new fast_call(name, f);
    const py::capsule self(own, [](void*) {});
    const py::object module_name = m.attr("__name__");
    PyObject* function = PyCFunction_NewEx(&own->definition_, self.ptr(), module_name.ptr());
    if (!function) throw py::error_already_set();
    m.add_object(name, py::reinterpret_steal<py::object>(function));
  }

 private:
  F f_;
  PyMethodDef definition_;

  fast_call(const char* name, const F& f)
      : f_(f),
        definition_{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)),
                    METH_FASTCALL, nullptr} {}

  static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t n) {
    try {
      const auto* own = static_cast<const fast_call*>(PyCapsule_GetPointer(self, nullptr));
      constexpr Py_ssize_t wanted = sizeof...(Args);
      if (n != wanted)
        throw py::type_error(std::string(own->definition_.ml_name) + " takes " +
                             std::to_string(wanted) + " arguments, got " + std::to_string(n));
      return own->run(args, std::index_sequence_for<Args...>()).release().ptr();
    }
#if defined(__GLIBCXX__)
    catch (abi::__forced_unwind&) {
      throw;
    }
#endif
    catch (...) {
      py::detail::try_translate_exceptions();
      return nullptr;
    }
  }
  template <std::size_t... I>
  py::object run(PyObject* const* args, std::index_sequence<I...>) const {
    if constexpr (std::is_same_v<Result, bool>)
      return py::bool_(f_(argument_from<Args>(args[I])...));
    else return f_(argument_from<Args>(args[I])...);
  }
};

template <class F, class Result, class Class, class... Args>
inline void define_fast_as(py::module_& m, const char* name, const F& f,
                           Result (Class::*)(Args...) const) {
  fast_call<F, Result, std::decay_t<Args>...>::define(m, name, f);
}

// m.name = f, a function or a lambda. Handles are valid during the call.
template <class Result, class... Args>
inline void define_fast(py::module_& m, const char* name, Result (*f)(Args...)) {
  fast_call<Result (*)(Args...), Result, std::decay_t<Args>...>::define(m, name, f);
}
template <class F, class = decltype(&F::operator())>
inline void define_fast(py::module_& m, const char* name, const F& f) {
  define_fast_as(m, name, f, &F::operator());
}

}  // namespace dlcore
