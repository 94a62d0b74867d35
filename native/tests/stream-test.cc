#include "core/stream.h"

#include <atomic>
#include <string>

#include "core/autograd.h"
#include "core/gradient-ops.h"
#include "core/memory.h"
#include "ops/copy.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "tests/harness.h"

// The stream (order, memory, failures, teardown) and the tape on top of it.

namespace lorikeet {
namespace {

constexpr int64_t kBytes = int64_t{4} << 20;
constexpr int64_t kSlack = 65536;

/// A stream for the calling thread while a test runs.
struct TestStream {
  TestStream() { Stream::set_current(&stream); }
  ~TestStream() {
    stream.stop();
    Stream::set_current(nullptr);
  }
  Stream stream;
};

float read(const Tensor& x) {
  std::exception_ptr failure;
  float value = 0;
  Stream::current().push({"read", {x}, {}, [&] { value = *x.data<float>(); }, [&](std::exception_ptr error) { failure = error; }, {}});
  Stream::current().wait();
  if (failure) std::rethrow_exception(failure);
  return value;
}

template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Tensor scalar(double value) { return filled(Shape{1}, DType::f32, Device::cpu, value); }
Tensor buffer(double value) { return filled(Shape{kBytes / 4}, DType::f32, Device::cpu, value); }

NATIVE_TEST(stream_runs_in_program_order) {
  TestStream use;
  Tensor x = scalar(0);
  for (int i = 0; i < 20000; ++i) x = unary(UnaryOp::affine_op, x, 1, 1);
  EXPECT(read(x) == 20000, "got %g", read(x));
}

NATIVE_TEST(stream_returns_memory_in_program_order) {
  TestStream use;
  reset_peak_memory();
  int64_t before = memory_stats().live;
  Tensor x = buffer(1);
  for (int i = 0; i < 200; ++i) x = unary(UnaryOp::affine_op, x, 1, 1);
  use.stream.wait();
  // Two buffers at a time, as in a synchronous engine, although 200 results were queued.
  EXPECT(memory_stats().peak - before <= 2 * kBytes + kSlack, "peak %ld", static_cast<long>(memory_stats().peak - before));
  x = Tensor();
  use.stream.wait();
  EXPECT(memory_stats().live <= before + kSlack, "live %ld", static_cast<long>(memory_stats().live - before));
}

NATIVE_TEST(stream_failure_poisons_only_its_consumers) {
  TestStream use;
  Tensor good = scalar(2), bad = empty(Shape{1}, DType::f32);
  enqueue("broken", {good}, {bad}, [] { fail(ErrorCode::non_finite, "broken: on purpose"); });
  Tensor after = unary(UnaryOp::exp_op, bad, 0, 0), unrelated = unary(UnaryOp::affine_op, good, 3, 0);
  EXPECT(read(unrelated) == 6, "unrelated work was hit");
  std::string message = message_of([&] { read(after); });
  EXPECT(contains(message, "broken: on purpose (while running broken f32[1])"), "got \"%s\"", message.c_str());
}

NATIVE_TEST(stream_survives_out_of_memory) {
  TestStream use;
  set_memory_limit(memory_stats().live + (1 << 20));
  Tensor big = buffer(1);
  std::string message = message_of([&] { read(big); });
  EXPECT(contains(message, "memory: the limit is reached"), "got \"%s\"", message.c_str());
  set_memory_limit(0);
  EXPECT(read(scalar(4)) == 4, "the stream is stuck");
}

NATIVE_TEST(stream_stops_with_work_still_queued) {
  for (int round = 0; round < 20; ++round) {
    Stream stream;
    std::atomic<int> ran{0};
    for (int i = 0; i < 1000; ++i) stream.push({"count", {}, {}, [&] { ran.fetch_add(1); }, nullptr, {}});
    stream.stop();
    EXPECT(ran <= 1000, "got %d", ran.load());
  }
}

NATIVE_TEST(tape_frees_saved_tensors_as_it_goes) {
  TestStream use;
  int64_t before = memory_stats().live;
  Tensor x = buffer(0.5);
  set_requires_grad(x, true);
  Tensor y = x;
  for (int i = 0; i < 8; ++i) y = unary(UnaryOp::square_op, y, 0, 0);
  Tensor loss = reduce(ReduceOp::sum, y, {}, false);
  y = Tensor();
  use.stream.wait();
  reset_peak_memory();
  int64_t graph = memory_stats().live - before;
  EXPECT(graph >= 8 * kBytes, "saved only %ld", static_cast<long>(graph));
  backward(loss, Tensor());
  use.stream.wait();
  EXPECT(memory_stats().peak - before <= graph + 3 * kBytes, "backward adds %ld", static_cast<long>(memory_stats().peak - before - graph));
  loss = Tensor();
  use.stream.wait();
  EXPECT(memory_stats().live - before <= 2 * kBytes + kSlack, "left behind %ld", static_cast<long>(memory_stats().live - before));
}

NATIVE_TEST(tape_refuses_a_second_backward) {
  TestStream use;
  Tensor x = scalar(3);
  set_requires_grad(x, true);
  Tensor y = unary(UnaryOp::square_op, x, 0, 0);
  backward(y, Tensor());
  EXPECT(read(x.autograd()->grad) == 6, "got %g", read(x.autograd()->grad));
  std::string message = message_of([&] { backward(y, Tensor()); });
  EXPECT(contains(message, "freed by an earlier backward"), "got \"%s\"", message.c_str());
}

NATIVE_TEST(tape_notices_in_place_changes) {
  TestStream use;
  Tensor x = scalar(3), w = scalar(2);
  set_requires_grad(x, true);
  Tensor y = binary(BinaryOp::mul_op, x, w);
  {
    NoGrad no_grad;
    fill(w, 5);
  }
  std::string message = message_of([&] { backward(y, Tensor()); });
  EXPECT(contains(message, "mul: a tensor needed for backward was changed in place"), "got \"%s\"", message.c_str());
}

NATIVE_TEST(tape_drops_a_very_deep_graph_without_recursion) {
  TestStream use;
  Tensor x = scalar(0);
  set_requires_grad(x, true);
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = unary(UnaryOp::affine_op, y, 1, 0);
  y = Tensor();
  use.stream.wait();
}

NATIVE_TEST(tape_hook_sees_the_final_gradient_and_may_take_it) {
  TestStream use;
  Tensor x = scalar(3);
  set_requires_grad(x, true);
  int calls = 0;
  float seen = 0;
  x.autograd()->hook = [&](const Tensor& gradient) {
    ++calls;
    seen = read(gradient);
    return Tensor();
  };
  backward(binary(BinaryOp::add_op, unary(UnaryOp::square_op, x, 0, 0), unary(UnaryOp::affine_op, x, 4, 0)), Tensor());
  EXPECT(calls == 1 && seen == 10, "got %g in %d calls", seen, calls);
  EXPECT(!x.autograd()->grad.defined(), "the gradient was kept");
}

NATIVE_TEST(reshape_of_a_view_equals_reshape_of_a_copy) {
  TestStream use;
  Tensor x = empty(Shape{2, 3, 4}, DType::f32);
  x.storage()->materialize();
  for (int i = 0; i < 24; ++i) x.data<float>()[i] = static_cast<float>(i);
  Tensor swapped = permute(x, {0, 2, 1});
  for (const Shape& shape : {Shape{8, 3}, Shape{24}, Shape{2, 12}, Shape{4, 6}, Shape{2, 2, 2, 3}}) {
    Tensor viewed = contiguous(reshape(swapped, shape)), copied = reshape(contiguous(swapped), shape);
    use.stream.wait();
    for (int i = 0; i < 24; ++i)
      EXPECT(viewed.data<float>()[i] == copied.data<float>()[i], "element %d of %s", i, std::string(to_string(shape)).c_str());
  }
}

}  // namespace
}  // namespace lorikeet
