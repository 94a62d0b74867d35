#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace lorikeet {

using Tensors = std::vector<Tensor>;

/// Which inputs of a node need a gradient; indexed like the inputs given to record().
using Wanted = std::vector<bool>;

/// What a backward gets for an output that no gradient came to.
enum class AbsentGradient { zeros, undefined };

/// From the gradients of the outputs (where none came, what the op was recorded with) to those of the inputs; entries not wanted may be
/// left undefined. A returned gradient may have the broadcast shape of its input: the engine sums it down.
using Backward = std::function<Tensors(const Tensors& output_gradients, const Wanted& wanted)>;

/// One recorded op. Forward pointers go from outputs to inputs; freed as backward passes through.
struct Node {
  Node() = default;
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* name;
  int64_t sequence;
  struct Edge {
    std::shared_ptr<AutogradMeta> meta;  // null where no gradient is needed
    Shape shape;
    DType dtype;
  };
  std::vector<Edge> inputs;
  struct Output {
    Shape shape;
    DType dtype;
    Device device;
  };
  std::vector<Output> outputs;
  Backward backward;
  AbsentGradient without = AbsentGradient::zeros;
};

/// How to compute the output of a cheap op again: those that keep it for backward then keep no memory of it. `value` is made by the first
/// of them that needs it, and goes with the last.
struct Recompute {
  std::function<Tensor()> make;
  Tensor value;
};

/// The tape state of one tensor: a leaf that collects a gradient, or an output of a node.
struct AutogradMeta {
  bool is_leaf = false;
  std::shared_ptr<Node> node;
  int output = 0;
  Tensor grad;
  std::shared_ptr<Recompute> recompute;  // null: the output is kept as it is
  /// Called on the JavaScript thread when this leaf's gradient is final in a backward; may replace the gradient or take it (return
  /// undefined).
  std::function<Tensor(const Tensor&)> hook;
};

/// True while ops are recorded on this thread.
bool recording();
class NoGrad {
 public:
  NoGrad() : previous_(set_recording(false)) {}
  ~NoGrad() { set_recording(previous_); }
  static bool set_recording(bool on);

 private:
  bool previous_;
};

bool requires_grad(const Tensor& x);
/// Makes x a leaf that collects a gradient, or stops it from doing so. Throws for results of recorded ops and for non-float dtypes.
void set_requires_grad(const Tensor& x, bool on);
/// True when an op on these inputs must be recorded.
bool needs_record(std::initializer_list<const Tensor*> inputs);
bool needs_record(const Tensors& inputs);

/// Records an op: `outputs` get their place on the tape. Call only when needs_record(inputs). Inputs may contain undefined tensors.
void record(const char* name, const Tensors& inputs, const Tensors& outputs, Backward backward,
            AbsentGradient without = AbsentGradient::zeros);

/// Offers to compute a recorded output again; `make` gives the same bits, from tensors that the op keeps for its own backward anyway.
void offer_recompute(const Tensor& output, std::function<Tensor()> make);

/// A tensor kept for backward: shares memory, holds no place on the tape (so keeping an output makes no cycle), and remembers its storage
/// version. Of an output that can be computed again it shares no memory.
class Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& x);
  /// Throws `op: a tensor needed for backward was changed in place ...` when its storage changed since.
  const Tensor& get(const char* op) const;

 private:
  Tensor tensor_;
  int64_t version_ = 0;
  std::shared_ptr<Recompute> recompute_;
};

/// Walks back from `root`, adding to the gradients of the leaves. `gradient` defaults to 1 for a one-element root. Frees the graph as it
/// goes; a second backward through it throws.
void backward(const Tensor& root, const Tensor& gradient);

/// Notes an in-place change of x in program order; throws if x is a leaf or result on the tape while recording.
void mark_changed(const char* op, const Tensor& x);

}  // namespace lorikeet
