#include "core/autograd.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/gradient-ops.h"
#include "core/recycled.h"
#include "core/stream.h"

namespace lorikeet {
namespace {

thread_local bool recording_flag = true;
thread_local int64_t next_sequence = 0;

/// Frees a chain of nodes without recursion: a graph that is dropped before its backward may be very deep.
void release_later(std::shared_ptr<AutogradMeta> meta) {
  thread_local std::vector<std::shared_ptr<AutogradMeta>> pending;
  thread_local bool draining = false;
  pending.push_back(std::move(meta));
  if (draining) return;
  draining = true;
  while (!pending.empty()) {
    auto next = std::move(pending.back());
    pending.pop_back();
  }
  draining = false;
}

/// The nodes reachable from `root`, latest first: an order in which every node comes before those it feeds gradients to.
std::vector<std::shared_ptr<Node>> reachable(const std::shared_ptr<Node>& root) {
  std::vector<std::shared_ptr<Node>> nodes, stack{root};
  std::unordered_set<Node*> seen{root.get()};
  while (!stack.empty()) {
    auto node = std::move(stack.back());
    stack.pop_back();
    for (const Node::Edge& edge : node->inputs) {
      if (edge.meta && edge.meta->node && seen.insert(edge.meta->node.get()).second) stack.push_back(edge.meta->node);
    }
    nodes.push_back(std::move(node));
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) { return a->sequence > b->sequence; });
  return nodes;
}

void accumulate(Tensor& into, const Tensor& gradient) { into = into.defined() ? add_gradients(into, gradient) : gradient; }

/// One backward pass.
class Walk {
 public:
  void run(const Tensor& root, const Tensor& gradient) {
    const auto& meta = root.autograd();
    if (meta->is_leaf) {
      leaf_arrived(meta, gradient);
      finish_leaf(meta);
      return;
    }
    check(meta->node != nullptr && meta->node->backward != nullptr, ErrorCode::invalid_argument,
          "backward: the graph of this tensor was freed by an earlier backward; record it again");
    auto nodes = reachable(meta->node);
    count_leaf_edges(nodes);
    node_gradients_[meta->node.get()].resize(meta->node->outputs.size());
    node_gradients_[meta->node.get()][meta->output] = gradient;
    for (auto& node : nodes) {
      visit(*node);
      node.reset();
    }
  }

 private:
  void count_leaf_edges(const std::vector<std::shared_ptr<Node>>& nodes) {
    for (const auto& node : nodes) {
      for (const Node::Edge& edge : node->inputs) {
        if (edge.meta && edge.meta->is_leaf) ++leaf_edges_[edge.meta.get()];
      }
    }
  }

  void visit(Node& node) {
    auto found = node_gradients_.find(&node);
    Tensors input_gradients;
    if (found != node_gradients_.end()) {
      Tensors gradients = std::move(found->second);
      node_gradients_.erase(found);
      for (size_t i = 0; i < gradients.size(); ++i) {
        const Node::Output& output = node.outputs[i];
        if (!gradients[i].defined() && node.without == AbsentGradient::zeros)
          gradients[i] = filled(output.shape, output.dtype, output.device, 0);
      }
      Wanted wanted;
      for (const Node::Edge& edge : node.inputs) wanted.push_back(edge.meta != nullptr);
      check(node.backward != nullptr, ErrorCode::invalid_argument, "backward: part of the graph (", node.name,
            ") was freed by an earlier backward; record it again");
      Backward backward = std::move(node.backward);
      node.backward = nullptr;
      // Gradients of gradients are not offered: what a backward runs is not recorded.
      NoGrad no_grad;
      input_gradients = backward(gradients, wanted);
    }
    auto inputs = std::move(node.inputs);
    node.inputs.clear();
    for (size_t i = 0; i < inputs.size(); ++i) deliver(inputs[i], i < input_gradients.size() ? input_gradients[i] : Tensor());
  }

  void deliver(Node::Edge& edge, const Tensor& gradient) {
    if (!edge.meta) return;
    Tensor ready = gradient.defined() ? reduce_to(gradient, edge.shape, edge.dtype) : gradient;
    if (edge.meta->is_leaf) {
      if (ready.defined()) leaf_arrived(edge.meta, ready);
      if (--leaf_edges_[edge.meta.get()] == 0) finish_leaf(edge.meta);
    } else if (ready.defined()) {
      auto& slots = node_gradients_[edge.meta->node.get()];
      slots.resize(edge.meta->node->outputs.size());
      accumulate(slots[edge.meta->output], ready);
    }
  }

  void leaf_arrived(const std::shared_ptr<AutogradMeta>& meta, const Tensor& gradient) {
    accumulate(leaf_gradients_[meta.get()], gradient);
  }

  void finish_leaf(const std::shared_ptr<AutogradMeta>& meta) {
    auto found = leaf_gradients_.find(meta.get());
    if (found == leaf_gradients_.end()) return;
    Tensor gradient = std::move(found->second);
    leaf_gradients_.erase(found);
    if (meta->hook) gradient = meta->hook(gradient);
    if (gradient.defined()) accumulate(meta->grad, gradient);
  }

  std::unordered_map<Node*, Tensors> node_gradients_;
  std::unordered_map<AutogradMeta*, Tensor> leaf_gradients_;
  std::unordered_map<AutogradMeta*, int> leaf_edges_;
};

}  // namespace

Node::~Node() {
  for (Edge& edge : inputs) {
    if (edge.meta) release_later(std::move(edge.meta));
  }
}

bool recording() { return recording_flag; }

bool NoGrad::set_recording(bool on) { return std::exchange(recording_flag, on); }

bool requires_grad(const Tensor& x) { return x.defined() && x.autograd() != nullptr; }

void set_requires_grad(const Tensor& x, bool on) {
  if (!on) {
    check_argument(!x.autograd() || x.autograd()->is_leaf, "requiresGrad: only leaves can be changed; this tensor is the result of ",
                   x.autograd() && x.autograd()->node ? x.autograd()->node->name : "an op", ", detach it instead");
    x.set_autograd(nullptr);
    return;
  }
  if (x.autograd()) return;
  check_argument(is_float(x.dtype()), "requiresGrad: only floating tensors have gradients; got ", name_of(x.dtype()));
  auto meta = std::allocate_shared<AutogradMeta>(Recycled<AutogradMeta>());
  meta->is_leaf = true;
  x.set_autograd(std::move(meta));
}

bool needs_record(std::initializer_list<const Tensor*> inputs) {
  return recording_flag && std::any_of(inputs.begin(), inputs.end(), [](const Tensor* x) { return requires_grad(*x); });
}

bool needs_record(const Tensors& inputs) { return recording_flag && std::any_of(inputs.begin(), inputs.end(), requires_grad); }

void record(const char* name, const Tensors& inputs, const Tensors& outputs, Backward backward, AbsentGradient without) {
  auto node = std::allocate_shared<Node>(Recycled<Node>());
  node->name = name;
  node->without = without;
  node->sequence = next_sequence++;
  for (const Tensor& input : inputs) {
    if (requires_grad(input)) {
      node->inputs.push_back({input.autograd(), input.shape(), input.dtype()});
    } else {
      node->inputs.push_back({nullptr, Shape(), DType::f32});
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    node->outputs.push_back({outputs[i].shape(), outputs[i].dtype(), outputs[i].device()});
    if (!is_float(outputs[i].dtype())) continue;
    auto meta = std::allocate_shared<AutogradMeta>(Recycled<AutogradMeta>());
    meta->node = node;
    meta->output = static_cast<int>(i);
    outputs[i].set_autograd(std::move(meta));
  }
  node->backward = std::move(backward);
}

void offer_recompute(const Tensor& output, std::function<Tensor()> make) {
  output.autograd()->recompute = std::make_shared<Recompute>(Recompute{std::move(make), Tensor()});
}

Saved::Saved(const Tensor& x) {
  if (!x.defined()) return;
  // What was changed in place is no longer what its op computes.
  if (x.autograd() && x.autograd()->recompute && x.storage()->version == 0) {
    recompute_ = x.autograd()->recompute;
    return;
  }
  tensor_ = x.detach();
  version_ = x.storage()->version;
}

const Tensor& Saved::get(const char* op) const {
  if (recompute_) {
    if (!recompute_->value.defined()) recompute_->value = recompute_->make();
    return recompute_->value;
  }
  check_argument(!tensor_.defined() || tensor_.storage()->version == version_, op,
                 ": a tensor needed for backward was changed in place after it was used; got version ",
                 tensor_.defined() ? tensor_.storage()->version : 0, ", expected ", version_);
  return tensor_;
}

void backward(const Tensor& root, const Tensor& gradient) {
  check_argument(requires_grad(root), "backward: this tensor does not depend on anything that requires a gradient");
  BackwardScope in_backward;
  Tensor start = gradient;
  if (!start.defined()) {
    check_shape(root.numel() == 1, "backward: a gradient is needed for a tensor of more than one element; got ", to_string(root.shape()));
    start = filled(root.shape(), root.dtype(), root.device(), 1);
  }
  check_shape(start.shape() == root.shape(), "backward: the gradient has another shape; got ", to_string(start.shape()), ", expected ",
              to_string(root.shape()));
  NoGrad no_grad;
  Walk().run(root, start);
}

void mark_changed(const char* op, const Tensor& x) {
  check_argument(!recording_flag || !requires_grad(x), op,
                 ": a tensor that requires a gradient cannot be changed in place while recording; use noGrad");
  check_argument(!x.storage()->read_only(), op, ": this tensor is a view of a file and cannot be changed in place; clone it");
  ++x.storage()->version;
}

}  // namespace lorikeet
