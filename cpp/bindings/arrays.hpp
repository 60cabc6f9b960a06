// From Python's arrays to views: exact dtype, layout, writeability, and errors that name the
// argument. Beside the module's own files the only place that knows pybind11.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <initializer_list>
#include <numeric>
#include <string>
#include <thread>

#include "core/labels.hpp"
#include "core/parallel.hpp"
#include "core/strided_view.hpp"

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace dlcore {

namespace py = pybind11;

// Names an argument in messages: "relu: x must be ...", "Adam.step: grads[3] must be ...".
struct argument {
  const char* function;
  const char* name;
  std::ptrdiff_t index = -1;  // in a list

  std::string called() const {
    return index < 0 ? name : std::string(name) + "[" + std::to_string(index) + "]";
  }
  std::string text() const { return std::string(function) + ": " + called(); }
};

enum class kind { float32, float64 };

// Runs f with a float or a double, after the arrays' dtype.
template <class F>
inline auto dispatch(kind k, const F& f) {
  return k == kind::float32 ? f(float{}) : f(double{});
}

// Calls f, a piece of Python's C interface that takes the GIL, or may let go of it and take it
// again. Before Python 3.14 an interpreter that is ending ends the other threads where they ask for
// the GIL, by unwinding their stacks: through destructors, which must not throw and which would
// change reference counts without the GIL. Such a thread waits here instead until the process is
// gone, as it does in Python 3.14; f itself has nothing to destroy.
template <class F>
inline auto in_python(const F& f) -> decltype(f()) {
#if defined(__GLIBCXX__)
  try {
    return f();
  } catch (const abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
#else
  return f();
#endif
}

// Released while a kernel runs.
class without_gil {
 public:
  without_gil() = default;
  without_gil(const without_gil&) = delete;
  ~without_gil() { acquire(); }

  // Calls f with the GIL.
  template <class F>
  auto with_gil(const F& f) {
    acquire();
    const released_again after{state_};
    return f();
  }

 private:
  PyThreadState* state_ = PyEval_SaveThread();

  struct released_again {
    PyThreadState*& state;
    ~released_again() { state = PyEval_SaveThread(); }
  };
  void acquire() {
    in_python([this] { PyEval_RestoreThread(state_); });
  }
};

// What Python code may run in, which another thread may interrupt.
inline py::object call_python(py::handle function, const py::tuple& arguments,
                              const py::dict& named = py::dict()) {
  PyObject* result =
      in_python([&] { return PyObject_Call(function.ptr(), arguments.ptr(), named.ptr()); });
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

inline py::object call_python(const char* module, const char* function, const py::tuple& arguments,
                              const py::dict& named = py::dict()) {
  PyObject* loaded = in_python([&] { return PyImport_ImportModule(module); });
  if (!loaded) throw py::error_already_set();
  const py::object own = py::reinterpret_steal<py::object>(loaded);
  return call_python(own.attr(function), arguments, named);
}

// No array, false as a bool; py::array's own default is an empty one.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

inline bool is_text(py::handle object, const char* text) {
  return PyUnicode_Check(object.ptr()) && PyUnicode_CompareWithASCIIString(object.ptr(), text) == 0;
}

inline std::string shape_text(const std::vector<py::ssize_t>& shape) {
  std::string s = "(";
  for (std::size_t d = 0; d < shape.size(); ++d) s += (d ? ", " : "") + std::to_string(shape[d]);
  return s + (shape.size() == 1 ? ",)" : ")");
}
inline std::string shape_text(const py::array& a) {
  return shape_text(std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()));
}

// The object as an ndarray that shares its memory; TypeError if NumPy cannot read it without a
// copy.
inline py::array as_array(py::handle object, const argument& arg) {
  const auto& api = py::detail::npy_api::get();
  if (Py_TYPE(object.ptr()) == api.PyArray_Type_) return py::reinterpret_borrow<py::array>(object);
  // __array__, buffers, __dlpack__ and subclasses are Python's business.
  return call_python("dlcore._common.arrays", "as_array", py::make_tuple(object, arg.text()));
}

inline py::detail::PyArrayDescr_Proxy* descr(const py::array& a) {
  return reinterpret_cast<py::detail::PyArrayDescr_Proxy*>(py::detail::array_proxy(a.ptr())->descr);
}

inline bool native_order(const py::array& a) {
  const char order = descr(a)->byteorder;
  return order == '=' || order == '|' || order == (PY_BIG_ENDIAN ? '>' : '<');
}

inline kind float_kind(const py::array& a, const argument& arg) {
  if (native_order(a)) {
    if (descr(a)->type_num == py::detail::npy_api::NPY_FLOAT_) return kind::float32;
    if (descr(a)->type_num == py::detail::npy_api::NPY_DOUBLE_) return kind::float64;
  }
  throw py::type_error(arg.text() +
                       " must be a float32 or float64 array in native byte order, got " +
                       std::string(py::str(a.dtype())));
}

inline py::array float_array(py::handle object, const argument& arg, kind& k) {
  py::array a = as_array(object, arg);
  k = float_kind(a, arg);
  return a;
}

// A further floating argument, of the dtype of the first.
inline py::array float_array_like(py::handle object, const argument& arg, const py::array& first,
                                  const char* first_name) {
  py::array a = as_array(object, arg);
  float_kind(a, arg);
  if (descr(a)->type_num != descr(first)->type_num)
    throw py::type_error(arg.text() + " must have the dtype of " + first_name + ", " +
                         std::string(py::str(first.dtype())) + ", got " +
                         std::string(py::str(a.dtype())));
  return a;
}

inline bool same_shape(const py::array& a, const py::array& b) {
  return a.ndim() == b.ndim() && std::equal(a.shape(), a.shape() + a.ndim(), b.shape());
}

inline void require_shape_of(const py::array& a, const argument& arg, const py::array& first,
                             const char* first_name) {
  if (!same_shape(a, first))
    throw py::value_error(arg.text() + " must have the shape of " + first_name + ", " +
                          shape_text(first) + ", got " + shape_text(a));
}

inline view view_of(const py::array& a) {
  view v;
  v.data = static_cast<char*>(const_cast<void*>(a.data()));
  v.ndim = int(a.ndim());
  std::copy(a.shape(), a.shape() + v.ndim, v.shape.begin());
  std::copy(a.strides(), a.strides() + v.ndim, v.strides.begin());
  return v;
}

// The elements as one run in memory order, where the caller knows that there is one.
inline view flat_view_of(const py::array& a) {
  view v;
  v.data = static_cast<char*>(const_cast<void*>(a.data()));
  v.ndim = 1;
  v.shape[0] = a.size();
  v.strides[0] = a.itemsize();
  return v;
}

inline bool has_flag(const py::array& a, int flag) { return (a.flags() & flag) != 0; }

inline constexpr int c_contiguous = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;
inline constexpr int f_contiguous = py::detail::npy_api::NPY_ARRAY_F_CONTIGUOUS_;

// ---- outputs ------------------------------------------------------------------------------------

inline py::array empty_array(const py::array& like, bool fortran = false) {
  const auto& api = py::detail::npy_api::get();
  PyObject* dtype = like.dtype().release().ptr();  // the new array takes the reference
  PyObject* a = api.PyArray_NewFromDescr_(api.PyArray_Type_, dtype, int(like.ndim()),
                                          reinterpret_cast<const Py_intptr_t*>(like.shape()),
                                          nullptr, nullptr, fortran ? f_contiguous : 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}

// Has the pages of a large new array made, by all threads: 128 MiB take 5 ms, and 13 where the
// kernel comes to them one by one.
__attribute__((noinline)) inline void take_pages(const py::array& a) {
  constexpr std::ptrdiff_t page = 4096, run = std::ptrdiff_t(1) << 21;
  const std::ptrdiff_t bytes = a.nbytes();
  if (!worth_streaming(bytes)) return;
  auto* first = static_cast<volatile char*>(const_cast<void*>(a.data()));
  without_gil released;
  parallel_for(ceil_div(bytes, run), double(bytes) / 20, [&](std::ptrdiff_t i) {
    for (std::ptrdiff_t b = i * run; b < std::min(bytes, (i + 1) * run); b += page) first[b] = 0;
  });
}

// The addresses that an array spans: [low, high).
inline void extent(const py::array& a, const char*& low, const char*& high) {
  low = high = static_cast<const char*>(a.data());
  if (a.size() == 0) return;
  for (py::ssize_t d = 0; d < a.ndim(); ++d) {
    const auto reach = (a.shape(d) - 1) * a.strides(d);
    (reach < 0 ? low : high) += reach;
  }
  high += a.itemsize();
}

inline bool same_memory(const py::array& a, const py::array& b) {
  return a.data() == b.data() && same_shape(a, b) &&
         std::equal(a.strides(), a.strides() + a.ndim(), b.strides());
}

// Whether the strides alone keep the elements apart: those of the columns of a matrix, or of its
// even and its odd rows.
inline bool interleaved(const py::array& a, const py::array& b) {
  std::ptrdiff_t step = 0;
  for (const py::array* x : {&a, &b})
    for (py::ssize_t d = 0; d < x->ndim(); ++d)
      if (x->shape(d) > 1) step = std::gcd(step, std::ptrdiff_t(x->strides(d)));
  if (step == 0) return false;
  const std::ptrdiff_t distance =
      static_cast<const char*>(b.data()) - static_cast<const char*>(a.data());
  const std::ptrdiff_t offset = (distance % step + step) % step;
  return offset >= a.itemsize() && offset + b.itemsize() <= step;
}

inline bool overlap(const py::array& a, const py::array& b) {
  const char *a_low, *a_high, *b_low, *b_high;
  extent(a, a_low, a_high);
  extent(b, b_low, b_high);
  if (a_high <= b_low || b_high <= a_low || interleaved(a, b)) return false;
  // NumPy decides exactly.
  return call_python("numpy", "shares_memory", py::make_tuple(a, b)).cast<bool>();
}

// An array that is written: exactly this dtype and shape, each element its own memory.
inline py::array writeable_array(py::handle object, const argument& arg, const py::array& like,
                                 const char* like_name) {
  py::array out = as_array(object, arg);
  if (!native_order(out) || descr(out)->type_num != descr(like)->type_num)
    throw py::type_error(arg.text() + " must have the dtype of " + like_name + ", " +
                         std::string(py::str(like.dtype())) + ", got " +
                         std::string(py::str(out.dtype())));
  require_shape_of(out, arg, like, like_name);
  if (!out.writeable()) throw py::value_error(arg.text() + " is read-only");
  if (!has_flag(out, c_contiguous) && !has_flag(out, f_contiguous)) {
    // Each stride must step over all that the smaller strides reach.
    std::array<std::pair<py::ssize_t, py::ssize_t>, max_dims> dims;
    int n = 0;
    for (py::ssize_t d = 0; d < out.ndim(); ++d)
      if (out.shape(d) > 1) dims[n++] = {std::abs(out.strides(d)), out.shape(d)};
    std::sort(dims.begin(), dims.begin() + n);
    py::ssize_t reach = out.itemsize();
    for (int i = 0; i < n && out.size() > 0; ++i) {
      if (dims[i].first < reach)
        throw py::value_error(arg.text() + " has elements that share memory with each other");
      reach += dims[i].first * (dims[i].second - 1);
    }
  }
  return out;
}

struct named_array {
  const char* name;
  const py::array* array;
  bool may_be_out = true;  // out may be exactly this array
};

// `out` where it is given and fits, else a new array. Inputs may not partly overlap it.
inline py::array output(py::handle out, const char* function, const py::array& like,
                        const char* like_name, std::initializer_list<named_array> inputs,
                        bool fortran = false) {
  if (out.is_none()) {
    py::array result = empty_array(like, fortran);
    take_pages(result);
    return result;
  }
  py::array result = writeable_array(out, {function, "out"}, like, like_name);
  for (const named_array& in : inputs) {
    if (!in.array || (in.may_be_out && same_memory(result, *in.array))) continue;
    if (overlap(result, *in.array))
      throw py::value_error(
          std::string(function) + ": out overlaps " + in.name +
          (in.may_be_out ? " in part; it may be exactly that array, or apart" : ""));
  }
  return result;
}

// What a function returns for `out`: the object that the caller gave, or the new array.
inline py::object returned(py::handle out, const py::array& result) {
  return out.is_none() ? py::object(result) : py::reinterpret_borrow<py::object>(out);
}

// ---- labels -------------------------------------------------------------------------------------

inline bool is_integer(const py::array& a) {
  const char k = descr(a)->kind;
  return k == 'i' || k == 'u';
}

inline index_view index_view_of(const py::array& a, const argument& arg) {
  if (!is_integer(a) || !native_order(a))
    throw py::type_error(arg.text() + " must be an integer array in native byte order, got " +
                         std::string(py::str(a.dtype())));
  index_view v;
  v.item_size = int(a.itemsize());
  v.is_signed = descr(a)->kind == 'i';
  v.rows = view_of(a);
  return v;
}

[[noreturn]] inline void bad_label(const py::array& target, const argument& arg, std::ptrdiff_t row,
                                   std::ptrdiff_t classes) {
  std::string where;
  std::ptrdiff_t rest = row;
  py::tuple index(target.ndim());
  for (py::ssize_t d = target.ndim() - 1; d >= 0; --d) {
    index[d] = py::int_(rest % target.shape(d));
    rest /= target.shape(d);
  }
  for (py::ssize_t d = 0; d < target.ndim(); ++d)
    where += (d ? ", " : "") + std::string(py::str(index[d]));
  throw py::index_error(arg.text() + (target.ndim() ? "[" + where + "]" : "") + " = " +
                        std::string(py::str(target[index])) + " is out of range for " +
                        std::to_string(classes) + (classes == 1 ? " class" : " classes"));
}

}  // namespace dlcore
