#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "core/level.h"
#include "core/stream.h"
#include "ops/concat.h"
#include "ops/copy.h"
#include "ops/create.h"
#include "ops/cross-entropy.h"
#include "ops/dropout.h"
#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/gradient-norm.h"
#include "ops/index-select.h"
#include "ops/layer-norm.h"
#include "ops/matmul.h"
#include "ops/optimizers.h"
#include "ops/reduce.h"
#include "ops/rms-norm.h"
#include "ops/shape.h"
#include "ops/softmax.h"
#include "ops/swiglu.h"
#include "ops/top-k.h"
#include "tests/harness.h"

// Every op forward and backward on odd sizes at every level and dtype: their values are checked from TypeScript, here the sanitizers watch
// their memory.

namespace lorikeet {
namespace {

struct TestStream {
  TestStream() { Stream::set_current(&stream); }
  ~TestStream() {
    stream.stop();
    Stream::set_current(nullptr);
  }
  Stream stream;
};

/// Waits for x and tells whether the work that wrote it succeeded.
std::string problem_of(const Tensor& x) {
  std::string problem;
  Stream::current().push({"read",
                          {x},
                          {},
                          [] {},
                          [&](std::exception_ptr error) {
                            if (!error) return;
                            try {
                              std::rethrow_exception(error);
                            } catch (const std::exception& failure) {
                              problem = failure.what();
                            }
                          },
                          {}});
  Stream::current().wait();
  return problem;
}

constexpr DType kFloats[] = {DType::f64, DType::f32, DType::bf16, DType::f16};

Tensor leaf(const Shape& shape, DType dtype) {
  static uint64_t stream = 0;
  Tensor x = normal(shape, dtype, 0, 1, 1, stream++);
  set_requires_grad(x, true);
  return x;
}

/// Whole numbers below `limit`.
Tensor ids(const Shape& shape, int64_t limit) {
  NoGrad no_grad;
  Tensor whole = arange(shape.numel(), DType::f32, 0, 0.37 * static_cast<double>(limit));
  Tensor turns = unary(UnaryOp::floor_op, unary(UnaryOp::affine_op, whole, 1.0 / static_cast<double>(limit), 0), 0, 0);
  Tensor rest = binary(BinaryOp::sub_op, whole, unary(UnaryOp::affine_op, turns, static_cast<double>(limit), 0));
  return reshape(cast(rest, DType::i64), shape);
}

/// Runs `op` at every level and in every dtype, and backward through its first result.
void exercise(const char* name, const std::function<Tensor(DType)>& op) {
  TestStream use;
  for (int level = 0; level <= static_cast<int>(machine_level()); ++level) {
    set_active_level(static_cast<Level>(level));
    for (DType dtype : kFloats) {
      Tensor y = op(dtype);
      if (requires_grad(y)) backward(y, normal(y.shape(), y.dtype(), 0, 1, 2, 0));
      std::string problem = problem_of(y);
      EXPECT(problem.empty(), "%s %s %s: %s", name, name_of(static_cast<Level>(level)), name_of(dtype), problem.c_str());
    }
    Stream::current().wait();
  }
  set_active_level(machine_level());
}

/// Row counts and widths around the sizes of vectors and blocks.
const int64_t kSizes[][2] = {{0, 5}, {1, 1}, {3, 7}, {5, 16}, {2, 65}, {131, 33}, {1, 4099}};

void exercise_sizes(const char* name, const std::function<Tensor(DType, int64_t, int64_t)>& op) {
  for (const auto& size : kSizes) {
    exercise(name, [&](DType dtype) { return op(dtype, size[0], size[1]); });
  }
}

NATIVE_TEST(ops_norms) {
  exercise_sizes("rmsNorm", [](DType t, int64_t n, int64_t d) { return rms_norm(leaf({n, d}, t), leaf({d}, t), 1e-5); });
  exercise_sizes("layerNorm", [](DType t, int64_t n, int64_t d) { return layer_norm(leaf({n, d}, t), leaf({d}, t), leaf({d}, t), 1e-5); });
  exercise_sizes("addRmsNorm", [](DType t, int64_t n, int64_t d) {
    return add_rms_norm(leaf({n, d}, t), leaf({n, d}, t), leaf({d}, t), 1e-5).back();
  });
  exercise_sizes("addLayerNorm", [](DType t, int64_t n, int64_t d) {
    return add_layer_norm(leaf({n, d}, t), leaf({n, d}, t), leaf({d}, t), leaf({d}, t), 1e-5).back();
  });
  exercise_sizes("softmax", [](DType t, int64_t n, int64_t d) { return softmax(leaf({n, d}, t), -1); });
}

NATIVE_TEST(ops_elementwise) {
  for (int op = 0; op < static_cast<int>(UnaryOp::count); ++op) {
    exercise(kUnaryNames[op], [op](DType t) { return unary(static_cast<UnaryOp>(op), leaf({3, 37}, t), 0.5, 2); });
  }
  for (int op = 0; op < static_cast<int>(BinaryOp::count); ++op) {
    exercise(kBinaryNames[op], [op](DType t) { return binary(static_cast<BinaryOp>(op), leaf({3, 1, 37}, t), leaf({5, 37}, t)); });
  }
  exercise_sizes("swiGlu", [](DType t, int64_t n, int64_t d) { return swiglu(leaf({n, d}, t), leaf({n, d}, t)); });
  exercise_sizes("dropout", [](DType t, int64_t n, int64_t d) { return dropout(leaf({n, d}, t), 0.3, 1, 2); });
  exercise_sizes("permuted copy", [](DType t, int64_t n, int64_t d) { return contiguous(permute(leaf({n, d}, t), {1, 0})); });
}

NATIVE_TEST(ops_reductions) {
  for (int op = 0; op < static_cast<int>(ReduceOp::count); ++op) {
    for (int64_t dim : {0, 1, 2}) {
      exercise(kReduceNames[op], [=](DType t) { return reduce(static_cast<ReduceOp>(op), leaf({3, 35, 17}, t), {dim}, false); });
    }
  }
}

NATIVE_TEST(ops_look_ups) {
  exercise_sizes("embedding", [](DType t, int64_t n, int64_t d) { return embedding(leaf({11, d}, t), ids({n}, 11)); });
  exercise_sizes("indexSelect", [](DType t, int64_t n, int64_t d) { return index_select(leaf({2, 9, d}, t), 1, ids({n}, 9)); });
  exercise_sizes("gather", [](DType t, int64_t n, int64_t d) { return gather(leaf({3, 9, d}, t), 1, ids({3, n, d}, 9)); });
  exercise_sizes("scatterAdd", [](DType t, int64_t n, int64_t d) {
    return scatter_add(leaf({3, 9, d}, t), 1, ids({3, n, d}, 9), leaf({3, n, d}, t));
  });
  exercise_sizes("topK", [](DType t, int64_t n, int64_t d) { return top_k(leaf({n, d}, t), (d + 1) / 2)[0]; });
  exercise_sizes("concat", [](DType t, int64_t n, int64_t d) { return concatenate({leaf({n, d}, t), leaf({n, 3}, t)}, 1); });
}

NATIVE_TEST(ops_losses) {
  exercise_sizes("crossEntropy, trained head", [](DType t, int64_t n, int64_t d) {
    return cross_entropy(leaf({n, d}, t), {nullptr, leaf({13, d}, t)}, leaf({13}, t), ids({n}, 13), 3, 1.5);
  });
  exercise_sizes("crossEntropy, frozen head", [](DType t, int64_t n, int64_t d) {
    return cross_entropy(leaf({n, d}, t), {pack_weight(leaf({37, d}, t).detach(), "dual"), Tensor()}, std::nullopt, ids({n}, 37), 3, 1);
  });
  exercise_sizes("logitsCrossEntropy", [](DType t, int64_t n, int64_t d) {
    return logits_cross_entropy(leaf({n, d}, t), ids({n}, d), -100, 1);
  });
}

NATIVE_TEST(ops_matmul) {
  exercise_sizes("matmul", [](DType t, int64_t n, int64_t d) { return matmul(leaf({2, n, d}, t), permute(leaf({19, d}, t), {1, 0})); });
}

NATIVE_TEST(ops_optimizer_steps) {
  exercise("optimizers", [](DType t) {
    DType wide = t == DType::f64 ? DType::f64 : DType::f32;
    Tensors parameters, gradients, first, second;
    for (int64_t n : {0, 1, 37, 16385}) {
      parameters.push_back(leaf({n}, t));
      gradients.push_back(leaf({n}, t).detach());
      parameters.back().autograd()->grad = gradients.back();
      first.push_back(full({n}, wide, 0));
      second.push_back(full({n}, wide, 0));
    }
    std::vector<double> steps(parameters.size(), 1);
    adamw_step(parameters, first, second, steps, 0.1, 0.9, 0.999, 1e-8, 0.1, full({}, DType::f32, 0.5));
    sgd_step(parameters, first, steps, 0.1, 0.9, 0, 0.1, true, std::nullopt);
    scale_in_place(gradients, full({}, DType::f32, 2));
    EXPECT(problem_of(non_finite_count(parameters)).empty(), "nonFiniteCount");
    return global_norm(parameters);
  });
}

}  // namespace
}  // namespace lorikeet
