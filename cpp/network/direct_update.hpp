// The update that is made part by part, each as soon as its gradient is there: gradient and update
// are one region, and the caches hold both. It cannot be taken back; finite_bounds says whether it
// has to be.
//
// Over a row of steps the weights of wide layers and their state are packed by panels, and of large
// tables the rows that batches have are updated alone. The arrays of the caller are out of date
// until they are unpacked.
#pragma once

#include <memory>
#include <vector>

#include "network/clip_norm.hpp"
#include "network/lazy_table.hpp"
#include "network/packed_weights.hpp"
#include "network/passes.hpp"

namespace dlcore {

template <class T>
class direct_update {
 public:
  direct_update(network<T>& net, const passes<T>& of);
  direct_update(const direct_update&) = delete;
  ~direct_update() { unpack_serially(); }

  // Whether all layers allow it.
  bool is_possible() const { return is_possible_; }
  // What `plan` is made for.
  struct choice {
    std::vector<trained_parameter<T>> parameters;
    bool is_packed = false;           // by panels where that suits
    std::vector<std::size_t> lazy{};  // tables whose rows wait, among the parameters
    std::ptrdiff_t lazy_batch = 0;    // most rows of a batch, if there are any

    bool operator==(const choice& other) const {
      return parameters == other.parameters && is_packed == other.is_packed && lazy == other.lazy &&
             lazy_batch == other.lazy_batch;
    }
  };
  // From now on ranks share the parts, and each has the states of its own alone until `unpack`;
  // null: all are updated here.
  void share_with(ranks* between);
  // Chooses the tables whose rows can wait for batches of up to so many rows.
  void choose_lazy(choice& of, const optimizer& by, std::ptrdiff_t batch) const;
  // Cuts the update of these parameters into tasks.
  void plan(const choice& of);

  // Takes over the values of all parameters.
  void begin_epoch();
  void pack();
  void unpack();
  // The same on this thread, without any memory: what is left to do as an exception goes by.
  void unpack_serially() noexcept;
  // Brings up to date what a batch is about to read.
  void begin_batch(const matrix_rows<T>& x, const std::int64_t* indices, std::ptrdiff_t n);

  // Updates by the gradients of n rows. `max_norm`: of all of them; 0: any. With one all gradients
  // come first, in a region of their own, and each thread updates those that it made.
  void run(const optimizer& by, std::ptrdiff_t n, double max_norm);
  // The sum of the squares of all parameters with a penalty, after `run`.
  double squared_norm();

 private:
  // Elements of a parameter.
  struct piece {
    trained_parameter<T> of{};  // of no tensor: there is none
    typename layer<T>::range at{0, 0};
  };
  ranks* between_ = nullptr;
  ranks* states_are_with_ = nullptr;  // the ranks among which states are; null: all are here
  struct task {
    packed_weights<T>* packed;  // null: a part of a layer, or of a table
    std::size_t layer_index;
    std::ptrdiff_t part;
    piece weight, bias;  // of a part of a layer
    lazy_table<T>* lazy = nullptr;

    std::ptrdiff_t gradient_size() const {
      if (lazy) return lazy->gradient_size(part);
      return packed ? packed->gradient_size(part) : weight.at.size() + bias.at.size();
    }
    std::ptrdiff_t most_gradients() const {
      return lazy ? lazy->most_gradients() : gradient_size();
    }
  };
  network<T>& net_;
  const passes<T>& passes_;
  bool is_possible_ = true;
  bool is_packed_ = false;
  std::ptrdiff_t size_ = 0;  // elements of all parameters that are trained
  std::vector<std::unique_ptr<packed_weights<T>>> packed_;
  std::vector<std::unique_ptr<lazy_table<T>>> lazy_;
  std::vector<task> lazy_tasks_;
  bool waits_ = false;  // a row of a table, maybe
  std::vector<task> tasks_;
  std::vector<double> squares_;  // of the parameters of each task
  dealt costs_;
  // Where the norm is limited: the gradients of all tasks, where those of each begin, and the sums
  // of their squares.
  std::vector<T> gradients_;
  std::vector<std::ptrdiff_t> begins_;
  std::vector<pair_sum<double>> gradient_squares_;

  template <class F>
  void each_packed(const F& f);
  void plan_lazy(const choice& of, std::vector<bool>& is_lazy);
  template <class F>
  void each_task(double nanoseconds, const F& f, ranks* between = nullptr);
  // f(rank, task, its number) of the tasks of all ranks.
  template <class F>
  void each_shared(const ranks& between, const F& f);
  void exchange_gradients();
  void exchange_values(bool has_squares);
  void exchange_states();
  double limit_norm(std::ptrdiff_t n, double max_norm);
  void gradient(const task& own, std::ptrdiff_t n, T* to) const;
  void update(std::ptrdiff_t i, const optimizer& by, T* gradient, T factor);
  void update_part(const task& own, const optimizer& by, T* gradient, T factor);
  static double squares_after(const task& own, const optimizer& by);
};

}  // namespace dlcore
