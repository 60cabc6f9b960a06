// Networks and their training steps as Python sees them. The Python package alone makes them, of
// the descriptions of specs.hpp; objects here keep what they are described with, and with it the
// arrays.
#include <limits>
#include <numeric>
#include <variant>

#include "bindings/interruptible.hpp"
#include "bindings/specs.hpp"
#include "network/inference.hpp"
#include "network/training_step.hpp"

namespace dlcore {

namespace {

// ---- inference ----------------------------------------------------------------------------------

class py_network {
 public:
  py_network(bool is_double, const py::tuple& layers, bool is_fixed)
      : layers_(layers),
        ndarray_(py::module_::import("numpy").attr("ndarray")),
        dtype_(is_double ? py::dtype::of<double>() : py::dtype::of<float>()) {
    dispatch(kind_of(is_double), [&](auto type) {
      using T = decltype(type);
      network_ = std::make_unique<inference<T>>(read_network<T>(layers), is_fixed);
    });
  }

  // The outputs, in a new array, for one as it should be: of the network's dtype and width, rows
  // contiguous, `finite`: without NaN and infinities. None for anything else. It is one call, since
  // for a single row checks in Python take longer than all the rest.
  py::object infer(const py::object& x, bool finite) {
    if (reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())) != ndarray_.ptr()) return py::none();
    const auto a = py::reinterpret_borrow<py::array>(x);
    return std::visit([&](auto& own) { return run(*own, a, finite); }, network_);
  }

  // The outputs for all rows of a CompressedRowsSpec, of a network whose first layer reads such.
  py::array infer_sparse(const py::object& x) {
    return std::visit([&](auto& own) { return run_sparse(*own, x); }, network_);
  }

 private:
  py::tuple layers_;  // what keeps the parameters
  py::object ndarray_;
  py::dtype dtype_;
  std::variant<std::unique_ptr<inference<float>>, std::unique_ptr<inference<double>>> network_;

  template <class T>
  py::array run_sparse(inference<T>& net, const py::object& x) const {
    const matrix_rows<T> from = read_rows<T>(x);
    if (!from.sparse || !net.reads_sparse() || from.width != net.in())
      throw py::value_error("infer_sparse: x does not fit the network");
    const std::ptrdiff_t rows = py::len(x.attr("indptr")) - 1;
    py::array out(dtype_, std::vector<py::ssize_t>{rows, net.out()});
    const rows_of<T> to{static_cast<T*>(out.mutable_data()), net.out()};
    interruptible(net.nanoseconds() * double(rows), [&] { net.run(from, to, rows); });
    return out;
  }
  template <class T>
  py::object run(inference<T>& net, const py::array& x, bool finite) const {
    const std::ptrdiff_t item = sizeof(T);
    const py::dtype dtype = x.dtype();
    if (!(dtype.is(dtype_) || dtype.equal(dtype_)) || x.ndim() != 2 || x.shape(1) != net.in() ||
        net.reads_sparse())
      return py::none();
    if (x.size() > 0 && (x.strides(1) != item || x.strides(0) % item != 0 ||
                         reinterpret_cast<std::uintptr_t>(x.data()) % alignof(T) != 0))
      return py::none();
    const std::ptrdiff_t rows = x.shape(0);
    py::array out(dtype_, std::vector<py::ssize_t>{rows, net.out()});
    const rows_of<const T> from{static_cast<const T*>(x.data()), x.strides(0) / item};
    const rows_of<T> to{static_cast<T*>(out.mutable_data()), net.out()};
    bool fine = false;
    interruptible(net.nanoseconds() * double(rows),
                  [&] { fine = net.run(from, to, rows, finite); });
    return fine ? py::object(out) : py::none();
  }
};

// ---- training -----------------------------------------------------------------------------------

template <class T>
class step_of {
 public:
  step_of(const py::tuple& layers, std::ptrdiff_t batch_size, const py::object& loss,
          bool accumulate)
      : net_(read_network<T>(layers), true),
        batch_size_(batch_size),
        has_loss_(!loss.is_none()),
        takes_labels_(false),
        step_(net_, batch_size, made(loss), accumulate),
        order_(batch_size) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  bool forward(const py::object& x, const py::array& indices, const py::array& outputs,
               std::uint64_t key) {
    const matrix_rows<T> from = read_rows<T>(x);
    const std::ptrdiff_t n = indices.size();
    if (from.width != net_.in() || !is_array_of<std::int64_t>(indices) || n > batch_size_ ||
        (net_.sparse_input && !from.sparse))
      throw py::value_error("forward: x or indices do not fit the training step");
    const rows_of<T> to = matrix(outputs, "outputs", n * net_.copies());
    const auto* first = static_cast<const std::int64_t*>(indices.data());
    bool fine = false;
    interruptible(net_.cost() * double(n), [&] {
      fine = step_.forward(from, first, n, key);
      copy_rows<T>(step_.outputs().read(), to, n * net_.copies(), net_.out());
    });
    return fine;
  }
  void backward(const py::array& gradient) {
    const std::ptrdiff_t rows = gradient.shape(0), n = rows / net_.copies();
    if (n > batch_size_) throw py::value_error("backward: gradient has too many rows");
    const rows_of<T> from = matrix(gradient, "gradient", rows);
    interruptible(net_.cost() * double(n), [&] {
      copy_rows<T>(from.read(), step_.output_gradients(), rows, net_.out());
      step_.backward(n);
    });
  }
  void finish_update(const py::tuple& parameters, double average_decay) {
    optimizer by;
    by.average_decay = average_decay;
    const auto specs = read_parameters<T>(parameters, net_, {});
    without_gil released;
    step_.finish_update(specs, by);
  }
  void forget() { step_.forget(); }
  void resume() { step_.resume(); }
  bool is_pending() const { return step_.is_pending(); }
  void undo() { step_.undo(); }
  void share_with(const ranks& between, const py::object& gather, const py::tuple& memory) {
    ranks_ = between, gather_ = gather, memory_ = memory;
    std::vector<unsigned char*> parts;
    std::ptrdiff_t bytes = 0;
    for (const auto& part : memory) {
      auto array = py::reinterpret_borrow<py::array_t<unsigned char>>(part);
      parts.push_back(array.mutable_data()), bytes = array.size();
    }
    if (!parts.empty()) ranks_.set_memory(std::move(parts), bytes);
    step_.share_with(&ranks_);
  }

  const char* run(const py::object& spec, epoch_progress& progress) {
    if (!has_loss_) throw py::value_error("run: the training step has no loss");
    std::optional<index_view> labels;
    const py::object update = spec.attr("update");
    const bool is_known = update.is(update_);
    update_ = py::none();  // unless it is read as a whole
    read_epoch<T>(spec, net_, batch_size_, takes_labels_, !is_known, labels, epoch_);
    update_ = update;
    if (net_.sparse_input && !epoch_.data.x.sparse)
      throw py::value_error("run: the training step reads sparse rows");
    const py::object between = spec.attr("between");
    const char* fault = run_epoch(
        [&](std::ptrdiff_t batches) { call_python(between, py::make_tuple(batches)); }, progress);
    return fault;
  }

  // One batch by the update of the last run, whose parameters have made so many steps, its gradient
  // times `scale`: its loss, and `squared_norms` as in a run, or None where the rows are not as
  // they should be, where a class index does not count or something goes wrong, which `run` tells.
  py::object run_batch(const py::object& given_x, const py::object& given_y, std::uint64_t key,
                       double steps, double scale, const py::object& squared_norms,
                       epoch_progress& progress) {
    if (!has_loss_ || net_.sparse_input || update_.is_none() || epoch_.update.groups.empty() ||
        !py::isinstance<py::array>(given_x) || !py::isinstance<py::array>(given_y))
      return py::none();
    const auto x = py::reinterpret_borrow<py::array>(given_x);
    const auto y = py::reinterpret_borrow<py::array>(given_y);
    const std::ptrdiff_t n = x.ndim() == 2 ? x.shape(0) : 0;
    const bool is_target = takes_labels_
                               ? y.ndim() == 1 && is_integer(y) && native_order(y)
                               : y.ndim() == 2 && is_array_of<T>(y) && y.shape(1) == net_.out();
    if (n < 1 || n > batch_size_ || !is_array_of<T>(x) || x.shape(1) != net_.in() || !is_target ||
        y.shape(0) != n)
      return py::none();
    std::optional<index_view> labels;
    epoch_.data = read_data<T>(x, y, net_, takes_labels_, labels);
    if (labels && !all_are_classes(*labels, n)) return py::none();
    const std::int64_t offsets[] = {0, n};
    const double normalizer = double(n);
    double loss = 0;
    double* squares = nullptr;
    if (!squared_norms.is_none()) {
      auto given = py::array::ensure(squared_norms);
      if (!given.is(squared_norms) || !is_array_of<double>(given) || given.size() != 1)
        return py::none();
      squares = static_cast<double*>(given.mutable_data());
    }
    epoch_.order = order_.data(), epoch_.offsets = offsets;
    epoch_.batches = 1, epoch_.accumulate = 1, epoch_.ends_update = true;
    epoch_.normalizers = &normalizer, epoch_.accumulation_weights = &scale;
    epoch_.loss_factors = nullptr, epoch_.loss_count = 0, epoch_.gradient_scale = 1;
    for (auto& group : epoch_.update.groups) group.steps = steps;
    epoch_.key = key, epoch_.learning_rates = nullptr, epoch_.outputs = nullptr;
    epoch_.losses = &loss, epoch_.squared_norms = squares;
    epoch_.seconds = std::numeric_limits<double>::infinity();
    const auto between = [](std::ptrdiff_t) {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    };
    return *run_epoch(between, progress) ? py::object(py::none()) : py::float_(loss);
  }

 private:
  network<T> net_;
  std::ptrdiff_t batch_size_;
  bool has_loss_, takes_labels_;
  training_step<T> step_;
  std::vector<std::int64_t> order_;
  ranks ranks_;
  py::object gather_ = py::none();
  py::tuple memory_;
  py::object update_ = py::none();  // the description of the update in `epoch_`
  epoch_spec<T> epoch_{};

  // What goes wrong, or "". `between` is called with the GIL.
  template <class F>
  const char* run_epoch(const F& between, epoch_progress& progress) {
    std::exception_ptr error;
    outcome result = outcome::fine;
    try {
      without_gil released;
      const auto call = [&](std::ptrdiff_t batches) {
        try {
          between(batches);
        } catch (...) {
          error = std::current_exception();
        }
        return !error;
      };
      const auto goes_on = [&](std::ptrdiff_t batches) {
        return released.with_gil([&] { return call(batches); });
      };
      ranks_.set_gather([&](unsigned char* own, unsigned char* all, std::ptrdiff_t bytes) {
        const auto gather = [&] {
          try {
            call_python(gather_, !memory_.empty()
                                     ? py::tuple()
                                     : py::make_tuple(py::memoryview::from_memory(own, bytes),
                                                      py::memoryview::from_memory(
                                                          all, bytes * ranks_.size())));
          } catch (...) {
            error = std::current_exception();
          }
          return !error;
        };
        if (!released.with_gil(gather)) throw interrupted();
      });
      result = step_.run(epoch_, goes_on, progress);
    } catch (const interrupted&) {  // by this error
    }
    if (error) std::rethrow_exception(error);
    constexpr const char* names[] = {"", "loss", "gradient", "parameters", "label", "code"};
    return names[int(result)];
  }

  bool all_are_classes(const index_view& labels, std::ptrdiff_t n) const {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      std::int64_t label;
      const std::int64_t index = i;
      labels.gather(&index, 1, &label);
      if (std::uint64_t(label) >= std::uint64_t(net_.out())) return false;
    }
    return true;
  }

  std::unique_ptr<block_loss<T>> made(const py::object& spec) {
    std::unique_ptr<block_loss<T>> loss = read_loss<T>(spec);
    takes_labels_ = loss && loss->takes_labels();
    return loss;
  }
  rows_of<T> matrix(const py::array& a, const char* name, std::ptrdiff_t n) const {
    if (!is_array_of<T>(a) || !has_flag(a, c_contiguous) || a.size() != n * net_.out())
      throw py::value_error(std::string(name) + " does not fit the training step");
    return {static_cast<T*>(const_cast<void*>(a.data())), net_.out()};
  }
};

class py_training_step {
 public:
  py_training_step(bool is_double, const py::tuple& layers, std::ptrdiff_t batch_size,
                   const py::object& loss, bool accumulate)
      : layers_(layers) {
    if (batch_size < 1) throw py::value_error("batch_size must be at least 1");
    dispatch(kind_of(is_double), [&](auto type) {
      using T = decltype(type);
      step_ = std::make_unique<step_of<T>>(layers, batch_size, loss, accumulate);
    });
  }
  bool forward(const py::object& x, const py::array& indices, const py::array& outputs,
               std::uint64_t key) {
    const sole_use use(is_in_use_, in_use);
    return std::visit([&](auto& s) { return s->forward(x, indices, outputs, key); }, step_);
  }
  void backward(const py::array& gradient) {
    const sole_use use(is_in_use_, in_use);
    std::visit([&](auto& s) { s->backward(gradient); }, step_);
  }
  void finish_update(const py::tuple& parameters, double average_decay) {
    const sole_use use(is_in_use_, in_use);
    std::visit([&](auto& s) { s->finish_update(parameters, average_decay); }, step_);
  }
  void forget() {
    const sole_use use(is_in_use_, in_use);
    std::visit([&](auto& s) { s->forget(); }, step_);
  }
  void resume() {
    const sole_use use(is_in_use_, in_use);
    std::visit([&](auto& s) { s->resume(); }, step_);
  }
  bool is_pending() const {
    return std::visit([&](const auto& s) { return s->is_pending(); }, step_);
  }
  void undo() {
    const sole_use use(is_in_use_, in_use);
    std::visit([&](auto& s) { s->undo(); }, step_);
  }
  // Ranks that make the same runs: `gather(own, all)` is given the bytes of this one, and gives
  // those of all; with `memory` of each that all read, `gather()` waits for all. Nanoseconds of a
  // message and a byte of it.
  void share_with(std::ptrdiff_t rank, std::ptrdiff_t size, const py::object& gather,
                  double message, double byte, const py::tuple& memory) {
    if (rank < 0 || rank >= size || (!memory.empty() && std::ptrdiff_t(memory.size()) != size))
      throw py::value_error("share_with: no such rank");
    const sole_use use(is_in_use_, in_use);
    const ranks between(rank, size, message, byte);
    std::visit([&](auto& s) { s->share_with(between, gather, memory); }, step_);
  }
  py::object run_batch(const py::object& x, const py::object& y, std::uint64_t key, double steps,
                       double scale, const py::object& squared_norms) {
    const sole_use use(is_in_use_, in_use);
    progress = {};
    return std::visit(
        [&](auto& s) { return s->run_batch(x, y, key, steps, scale, squared_norms, progress); },
        step_);
  }
  // What went wrong, or "". Exceptions of the epoch's `between` end it after the batch before.
  const char* run(const py::object& epoch) {
    const sole_use use(is_in_use_, in_use);
    progress = {};
    const py::object kept = epoch;  // the caller may let go of it meanwhile
    const char* fault = std::visit([&](auto& s) { return s->run(kept, progress); }, step_);
    return fault;
  }

  epoch_progress progress;  // of the last run

 private:
  static constexpr const char* in_use = "the training step is running already";

  py::tuple layers_;  // what keeps the parameters and gradients
  std::atomic<bool> is_in_use_{false};
  std::variant<std::unique_ptr<step_of<float>>, std::unique_ptr<step_of<double>>> step_;
};

}  // namespace

void bind_network(py::module_& m) {
  using py::arg;
  py::class_<py_network>(m, "Network", py::module_local())
      .def(py::init<bool, const py::tuple&, bool>(), arg("is_double"), arg("layers"),
           arg("is_fixed") = false)
      .def("infer", &py_network::infer, arg("x"), arg("finite") = false)
      .def("infer_sparse", &py_network::infer_sparse, arg("x"));
  py::class_<py_training_step>(m, "TrainingStep", py::module_local())
      .def(py::init<bool, const py::tuple&, std::ptrdiff_t, const py::object&, bool>(),
           arg("is_double"), arg("layers"), arg("batch_size"), arg("loss"), arg("accumulate"))
      .def("forward", &py_training_step::forward, arg("x"), arg("indices"), arg("outputs"),
           arg("key"))
      .def("backward", &py_training_step::backward, arg("gradient"))
      .def("finish_update", &py_training_step::finish_update, arg("parameters"),
           arg("average_decay"))
      .def("forget", &py_training_step::forget)
      .def("resume", &py_training_step::resume)
      .def_property_readonly("is_pending", &py_training_step::is_pending)
      .def("undo", &py_training_step::undo)
      .def("share_with", &py_training_step::share_with, arg("rank"), arg("size"), arg("gather"),
           arg("message"), arg("byte"), arg("memory"))
      .def("run", &py_training_step::run, arg("epoch"))
      .def("run_batch", &py_training_step::run_batch, arg("x"), arg("y"), arg("key"), arg("steps"),
           arg("scale") = 1.0, arg("squared_norms") = py::none())
      .def_property_readonly("batches",
                             [](const py_training_step& s) { return s.progress.batches; })
      .def_property_readonly("updates",
                             [](const py_training_step& s) { return s.progress.updates; });
}

}  // namespace dlcore
