// Attention of one to eight rows over many keys with one thread, where a head is one task, against more threads, where keys and columns
// are shared out: bit for bit, outputs and log-sums.

#include <cstring>
#include <random>
#include <vector>

#include "core/level.h"
#include "core/parallel.h"
#include "ops/attention.h"
#include "tests/harness.h"

namespace lorikeet {
namespace {

constexpr int64_t kBatch = 1, kKeys = 300, kGroups = 3, kWidth = 64;

struct Case {
  int64_t queries, heads, window;
  bool padded;  // the last 40 keys are not seen
};

std::vector<char> random_elements(DType dtype, int64_t count, std::mt19937& generator) {
  std::vector<char> elements(static_cast<size_t>(count * size_of(dtype)));
  std::normal_distribution<float> normal;
  LORIKEET_FLOAT_SWITCH(
      dtype, T, for (int64_t i = 0; i < count; ++i) {
        store(reinterpret_cast<T*>(elements.data()) + i, static_cast<compute_t<T>>(normal(generator)));
      });
  return elements;
}

/// The outputs, then the log-sums.
std::vector<char> attend(Level level, DType dtype, Case shape, const std::vector<char> (&operands)[3]) {
  const int64_t rows = kBatch * shape.queries * shape.heads, length = kKeys - 40, out_bytes = rows * kWidth * size_of(dtype);
  std::vector<char> results(static_cast<size_t>(out_bytes + rows * 4));
  AttentionArgs args{};
  args.dtype = dtype;
  args.batch = kBatch;
  args.queries = shape.queries;
  args.keys = kKeys;
  args.heads = shape.heads;
  args.groups = kGroups;
  args.width = kWidth;
  args.scale = 0.4;
  args.causal = true;
  args.window = shape.window;
  args.q = operands[0].data();
  args.k = operands[1].data();
  args.v = operands[2].data();
  const auto strides = [](int64_t(&of)[3], int64_t time, int64_t heads) {
    of[0] = time * heads * kWidth;
    of[1] = heads * kWidth;
    of[2] = kWidth;
  };
  strides(args.q_strides, shape.queries, shape.heads);
  strides(args.k_strides, kKeys, kGroups);
  strides(args.v_strides, kKeys, kGroups);
  if (shape.padded) args.key_lengths = &length;
  args.out = results.data();
  args.lse = results.data() + out_bytes;
  attention_fwd_kernel.at_level(level)(args);
  return results;
}

NATIVE_TEST(threads_share_the_attention_of_few_rows_without_a_trace) {
  const int threads = thread_count();
  std::mt19937 generator(7);
  for (const Case shape : {Case{1, 3, 0, false},
                           {1, 9, 0, false},
                           {1, 9, 130, false},
                           {2, 3, 0, true},
                           {2, 6, 70, false},
                           {1, 12, 0, true},
                           {2, 9, 200, false}}) {
    for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const std::vector<char> operands[3] = {random_elements(dtype, kBatch * shape.queries * shape.heads * kWidth, generator),
                                             random_elements(dtype, kBatch * kKeys * kGroups * kWidth, generator),
                                             random_elements(dtype, kBatch * kKeys * kGroups * kWidth, generator)};
      for (int level = 0; level <= static_cast<int>(active_level()); ++level) {
        set_thread_count(1);
        const std::vector<char> alone = attend(static_cast<Level>(level), dtype, shape, operands);
        for (int count : {2, 4}) {
          set_thread_count(count);
          EXPECT(attend(static_cast<Level>(level), dtype, shape, operands) == alone, "%s %s: %d queries, %d heads, window %d, %d threads",
                 name_of(static_cast<Level>(level)), name_of(dtype), static_cast<int>(shape.queries), static_cast<int>(shape.heads),
                 static_cast<int>(shape.window), count);
        }
      }
    }
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace lorikeet
