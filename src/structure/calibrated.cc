#include "structure/calibrated.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <span>
#include <thread>
#include <utility>

#include "audit/compare.h"
#include "audit/stored.h"
#include "reference/linear.h"

namespace verify_tflite {
namespace {

// Inputs of a product that are looked at: enough for a share of errors.
constexpr size_t kMostInputs = 128;
// Rows of the matrix that are multiplied at once.
constexpr int64_t kRowsAtOnce = 64;

// A constant, and the inputs that its product had.
struct Task {
  const tflite::Constant* constant = nullptr;
  const Product* product = nullptr;
  std::vector<float> x;  // [inputs, columns of the matrix]
  ActivationError error;
};

// What the product's operator reads, where it is rotated before: that.
std::vector<float> InputsOf(const Product& product, const Snapshot& snapshot) {
  const int32_t tensor = product.rotated >= 0 ? product.rotated : product.input;
  const auto found = snapshot.tensors.find(tensor);
  if (found == snapshot.tensors.end()) return {};
  std::vector<float> x = found->second;
  if (product.rotated < 0 && product.vector != nullptr) {
    ScaleRows(*product.vector, x);
  }
  return x;
}

// At most kMostInputs rows, evenly over all.
std::vector<float> Some(const std::vector<float>& x, size_t width) {
  const size_t rows = x.size() / width;
  if (rows <= kMostInputs) return x;
  std::vector<float> some;
  for (size_t i = 0; i < kMostInputs; ++i) {
    const size_t row = i * (rows - 1) / (kMostInputs - 1);
    some.insert(some.end(), x.begin() + static_cast<int64_t>(row * width),
                x.begin() + static_cast<int64_t>((row + 1) * width));
  }
  return some;
}

class Measurement {
 public:
  explicit Measurement(Task& task)
      : task_(task),
        pair_(*task.constant, *task.product->original, false),
        inputs_(std::ssize(task.x) / pair_.cols()) {}

  void Run() {
    double squares = 0, rounding = 0, steps = 0;
    std::vector<RowError> rows;
    for (int64_t row = 0; row < pair_.rows(); row += kRowsAtOnce) {
      const int64_t count = std::min(kRowsAtOnce, pair_.rows() - row);
      Load(row, count);
      const std::vector<double> found = Squares(errors_, count);
      const std::vector<double> plain = Squares(rounding_, count);
      for (int64_t i = 0; i < count; ++i) {
        rows.push_back({found[i], plain[i], steps_[i]});
        squares += found[i];
        rounding += plain[i];
        steps += steps_[i];
      }
    }
    task_.error.samples = inputs_;
    if (!(rounding > 0)) return;
    task_.error.ratio = squares / rounding;
    for (size_t row = 0; row < rows.size(); ++row) {
      const double usual = rounding / steps * rows[row].steps;
      Add(static_cast<int64_t>(row), rows[row].found,
          std::max(rows[row].plain, usual));
    }
  }

 private:
  struct RowError {
    double found = 0, plain = 0;
    double steps = 0;  // squares of its numbers' steps
  };

  // Of the checkpoint's rows: what the file has is off by errors_, rounding by
  // the same scales would be by rounding_.
  void Load(int64_t first, int64_t count) {
    const auto cols = static_cast<size_t>(pair_.cols());
    const float most = task_.constant->type == ElementType::kInt8 ? 127 : 7;
    errors_.resize(static_cast<size_t>(count) * cols);
    rounding_.resize(errors_.size());
    steps_.assign(static_cast<size_t>(count), 0);
    for (int64_t i = 0; i < count; ++i) {
      pair_.Load(first + i);
      for (size_t j = 0; j < cols; ++j) {
        const float w = pair_.original()[j], step = pair_.steps()[j];
        const float q = std::clamp(std::nearbyint(w / step), -most, most);
        const size_t at = static_cast<size_t>(i) * cols + j;
        steps_[static_cast<size_t>(i)] += double{step} * step;
        errors_[at] = pair_.stored()[j] - w;
        rounding_[at] = step == 0 ? -w : q * step - w;
      }
    }
  }

  // Of each row's products with all inputs.
  std::vector<double> Squares(const std::vector<float>& rows, int64_t count) {
    products_.resize(static_cast<size_t>(inputs_ * count));
    Multiply(rows, pair_.cols(), {task_.x.data(), inputs_}, products_.data());
    std::vector<double> squares(static_cast<size_t>(count));
    for (size_t i = 0; i < products_.size(); ++i) {
      squares[i % squares.size()] += double{products_[i]} * products_[i];
    }
    return squares;
  }

  void Add(int64_t row, double found, double plain) {
    // Rows of zeros have no error.
    const double ratio = found == 0 ? 0 : found / std::max(plain, 1e-30);
    if (ratio <= task_.error.worst_ratio) return;
    task_.error.worst_ratio = ratio;
    task_.error.worst_row = row;
  }

  Task& task_;
  RowPair pair_;
  int64_t inputs_;
  std::vector<float> errors_, rounding_, products_;
  std::vector<double> steps_;
};

std::vector<Task> TasksOf(const FileGraph& file, const Recording& recording,
                          const std::set<int32_t>& constants) {
  std::map<int32_t, Task> tasks;
  for (const Snapshot& snapshot : recording.snapshots) {
    if (snapshot.graph == nullptr) continue;
    for (const Product& product : snapshot.graph->products) {
      if (!constants.contains(product.constant) || product.transposed ||
          product.original == nullptr) {
        continue;
      }
      Task& task = tasks[product.constant];
      task.constant =
          &file.file->constants[static_cast<size_t>(product.constant)];
      task.product = &product;
      task.error.constant = product.constant;
      const std::vector<float> x = InputsOf(product, snapshot);
      task.x.insert(task.x.end(), x.begin(), x.end());
    }
  }
  std::vector<Task> result;
  for (auto& [index, task] : tasks) {
    const auto width = static_cast<size_t>(task.constant->cols());
    if (task.x.empty() || width == 0 || task.x.size() % width != 0) continue;
    task.x = Some(task.x, width);
    result.push_back(std::move(task));
  }
  return result;
}

}  // namespace

std::vector<ActivationError> MeasureActivationErrors(
    const FileGraph& file, const Recording& recording,
    const std::set<int32_t>& constants, int num_threads) {
  std::vector<Task> tasks = TasksOf(file, recording, constants);
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < tasks.size(); i = next++) {
      Measurement(tasks[i]).Run();
      DropPages(tasks[i].constant->data);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  std::vector<ActivationError> errors;
  for (const Task& task : tasks) errors.push_back(task.error);
  return errors;
}

}  // namespace verify_tflite
