#include "bindings/network.hpp"

namespace dlcore {

void bind_network(py::module_& m) {
  using py::arg;
  using py::object;
  m.def("normalize", normalize_rows, arg("is_double"), arg("spec"), arg("x"), arg("y"));
  m.def("normalize_backward", normalize_rows_backward, arg("is_double"), arg("spec"), arg("dy"),
        arg("x"), arg("dx"), arg("grads"));
  py::class_<py_network>(m, "Network", py::module_local())
      .def(py::init<bool, const py::list&>(), arg("is_double"), arg("layers"))
      .def("infer", &py_network::infer, arg("x"), arg("finite") = false);
  py::class_<py_training_step>(m, "TrainingStep", py::module_local())
      .def(py::init<bool, const py::list&, const py::list&, std::ptrdiff_t, const object&, bool>(),
           arg("is_double"), arg("layers"), arg("grads"), arg("batch_size"), arg("loss"),
           arg("accumulate"))
      .def("forward", &py_training_step::forward, arg("x"), arg("rows"), arg("out"), arg("key"))
      .def("backward", &py_training_step::backward, arg("slopes"))
      .def("forget", &py_training_step::forget)
      .def("undo", &py_training_step::undo)
      .def("run", &py_training_step::run, arg("job"));
}

}  // namespace dlcore
