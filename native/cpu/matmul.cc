// Batched products of strided operands: both are packed per call, b into panels and a (inside gemm) into blocks.

#include "cpu/level.h"

#include "cpu/gemm-pack.h"
#include "cpu/gemm.h"
#include "ops/matmul.h"

namespace lorikeet::LORIKEET_LEVEL {

void matmul_batch(const MatmulArgs& args, int64_t batch) {
  int64_t a_offset = 0, b_offset = 0, rest = batch;
  for (int i = args.batch_rank - 1; i >= 0; --i) {
    const int64_t place = rest % args.batch[i];
    rest /= args.batch[i];
    a_offset += place * args.a_batch[i];
    b_offset += place * args.b_batch[i];
  }
  const Panel panel = panel_for(args.dtype);
  const char* a = static_cast<const char*>(args.a) + a_offset * size_of(args.dtype);
  const char* b = static_cast<const char*>(args.b) + b_offset * size_of(args.dtype);
  char* y = static_cast<char*>(args.y) + batch * args.m * args.n * size_of(args.out_dtype);
  Scratch panels(panel_bytes(kThisLevel, panel, args.n, args.k, 2));
  pack_right({b, args.dtype, args.n, args.k, args.b_column, args.b_row, 1.0, panel, 2, panels.as<void>()});
  gemm({a,
        args.dtype,
        args.a_row,
        args.a_column,
        y,
        args.out_dtype,
        args.n,
        args.m,
        args.k,
        args.n,
        arithmetic_for(kThisLevel, args.dtype, panel),
        {panel, panels.as<void>()},
        nullptr,
        args.dtype,
        nullptr,
        0,
        nullptr,
        0});
}

void matmul(const MatmulArgs& args) {
  int64_t batches = 1;
  for (int i = 0; i < args.batch_rank; ++i) batches *= args.batch[i];
  // Many products: one task each. Few: the threads share each product. The bits are the same.
  const bool share = batches < 2 * thread_count();
  for_tasks(share || batches * args.m * args.n * args.k < (1 << 16), batches, [&](int64_t batch) { matmul_batch(args, batch); });
}

LORIKEET_KERNEL(matmul_kernel, matmul)

}  // namespace lorikeet::LORIKEET_LEVEL
