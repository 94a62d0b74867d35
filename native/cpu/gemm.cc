// y[M, N] = x[M, K] · W[N, K]ᵀ + Σ low-rank terms + bias, on packed panels; some such products as one job.
// (1) The z of low-rank terms is computed, and blocks of x that register blocks cannot read as they lie, or not fast, are copied; x that
// needs copies goes through in runs that fit kCopyBytes. (2) Tasks of some blocks times some panels fill tiles (the contraction in passes,
// then the terms as further steps of the same accumulators) and write them out, see cpu/gemm-sum.h. Where all panels stay in cache, a task
// does both for its blocks.

#include "cpu/level.h"

#include "cpu/gemm-int8.h"
#include "cpu/gemm-sum.h"
#include "cpu/gemm.h"
#include "cpu/gemv.h"

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kCopyBytes = 16 << 20;     // copies of left blocks in flight
inline constexpr int64_t kNarrowBytes = 256 << 10;  // panels that stay in a level-2 cache
inline constexpr int64_t kNarrowBlocks = 4;         // blocks of a task that goes through all of them

/// A sum and its tasks.
template <class Main, class Extra>
struct SumTasks {
  Sum<Main, Extra> sum;
  Cut cut;
  int64_t first_block, end_block, panels, shares, tasks;

  SumTasks() = default;
  SumTasks(const Sum<Main, Extra>& of, int64_t begin, int64_t end)
      : sum(of), first_block(begin), end_block(end), panels(ceil_div(of.products[0]->args.n, Sum<Main, Extra>::kWidth)) {
    cut = sum.cut_of(end - begin, panels);
    shares = ceil_div(panels, cut.share);
    tasks = ceil_div(end - begin, cut.part) * shares;
  }

  void run(int64_t task) const {
    const int64_t panel = task % shares * cut.share, block = first_block + task / shares * cut.part;
    sum.run(block, smaller(block + cut.part, end_block), panel, smaller(panel + cut.share, panels), cut.group);
  }
};

/// Products whose tasks run together: `summed`, or of one x and each with its own output.
template <class Main, class Extra>
struct Job {
  using P = Product<Main, Extra>;

  P* products[kMostJoint];
  int64_t count = 0;
  bool summed;

  bool copies(int64_t i) const { return products[i]->copies && (summed || i == 0); }

  void prepare(int64_t block) const {
    for (int64_t i = 0; i < count; ++i) {
      if (copies(i)) products[i]->copy(block);
    }
    for (int64_t i = 0; i < count; ++i) {
      const P& p = *products[i];
      for (const BlockTerm* part = p.terms.begin(block); part != p.terms.end(block); ++part) shrink(block, p, *part);
    }
  }

  /// z of the rows of a part and of those that share its panels, if it is the first of them.
  void shrink(int64_t block, const P& p, const BlockTerm& part) const {
    const void* panels = p.args.terms[part.term].shrink;
    Shrunk to[kMostJoint];
    int64_t found = 0;
    for (int64_t i = 0; i < count && !summed; ++i) {
      const P& other = *products[i];
      for (const BlockTerm* at = other.terms.begin(block); at != other.terms.end(block); ++at) {
        const LowRankTerm& term = other.args.terms[at->term];
        if (term.shrink != panels || at->row != part.row || at->rows != part.rows) continue;
        if (found == 0 && at != &part) return;
        to[found++] = {&term, at->z_row, other.args.y == nullptr ? nullptr : other.packed + at->packed};
      }
    }
    if (found > 1) return shrink_rows<Extra>(p.args, p.left_of(block).from_row(part.row), part.rows, to, found);
    shrink_block<Extra>(p.args, part, p.left_of(block), p.packed + part.packed);
  }

  void run() {
    if (count == 0) return;
    int64_t work = 0, left = 0;
    bool prepares = false;
    for (int64_t i = 0; i < count; ++i) {
      const GemmArgs& args = products[i]->args;
      work += args.m * args.k * (args.n + 16);
      left += copies(i) ? left_bytes<Main>(args.k) : 0;
      prepares = prepares || products[i]->copies || products[i]->terms.packed_bytes() > 0;
    }
    const bool small = work < (1 << 17);
    const int64_t blocks = ceil_div(products[0]->args.m, kRows), chunk = left > 0 ? within(kCopyBytes / left, 8, blocks) : blocks;
    Scratch memory(chunk * left);
    char* free = memory.as<char>();
    for (int64_t i = 0; i < count; ++i) {
      products[i]->copy_memory = summed || i == 0 ? free : products[0]->copy_memory;
      if (copies(i)) free += chunk * left_bytes<Main>(products[i]->args.k);
    }
    for (int64_t begin = 0; begin < blocks; begin += chunk) {
      const int64_t end = smaller(begin + chunk, blocks);
      for (int64_t i = 0; i < count; ++i) products[i]->first_block = begin;
      if (is_narrow(end - begin)) {
        fill_narrow(small, begin, end);
        continue;
      }
      if (prepares) {
        for_tasks(small, end - begin, [&](int64_t task) { prepare(begin + task); });
      }
      if (products[0]->args.y != nullptr) fill(small, begin, end);
    }
  }

  int64_t sum_count() const { return summed ? 1 : count; }
  Sum<Main, Extra> sum(int64_t i) const { return {products + i, summed ? count : 1}; }
  int64_t panels_of(int64_t i) const { return ceil_div(products[i]->args.n, P::kWidth); }

  /// Whether blocks are many, and the panels of all products so few that they stay in a level-2 cache.
  bool is_narrow(int64_t blocks) const {
    int64_t bytes = 0;
    bool in_one_pass = true;
    for (int64_t i = 0; i < count; ++i) bytes += panels_of(i) * products[i]->panel_bytes();
    for (int64_t i = 0; i < sum_count(); ++i) in_one_pass = in_one_pass && sum(i).in_one_pass();
    return in_one_pass && bytes <= kNarrowBytes && blocks >= 16 * thread_count() && products[0]->args.y != nullptr;
  }

  /// Makes what is made of panels; a task then goes with its blocks from z to the output.
  void fill_narrow(bool small, int64_t begin, int64_t end) const {
    const auto is_made = [&](int64_t i) { return products[i]->args.right.is_made(); };
    int64_t bytes = 0, makes = 0;
    for (int64_t i = 0; i < count; ++i) {
      bytes += is_made(i) ? panels_of(i) * products[i]->panel_bytes() : 0;
      makes += is_made(i) ? panels_of(i) : 0;
    }
    Scratch memory(bytes);
    char* free = memory.as<char>();
    Panels right[kMostJoint];
    for (int64_t i = 0; i < count; ++i) {
      right[i] = {is_made(i) ? free : static_cast<const char*>(products[i]->args.right.panels), products[i]->panel_bytes()};
      if (is_made(i)) free += panels_of(i) * right[i].stride;
    }
    for_tasks(small, makes, [&](int64_t panel) {
      int64_t i = 0;
      for (; !is_made(i) || panel >= panels_of(i); ++i) panel -= is_made(i) ? panels_of(i) : 0;
      const GemmArgs& args = products[i]->args;
      make_panel(args.right, args.k, args.n, panel, const_cast<char*>(right[i].data) + panel * right[i].stride);
    });
    const int64_t group = within((end - begin) / (8 * thread_count()), 1, kNarrowBlocks);
    for_tasks(small, ceil_div(end - begin, group), [&](int64_t task) {
      const int64_t first = begin + task * group, last = smaller(first + group, end);
      for (int64_t block = first; block < last; ++block) prepare(block);
      for (int64_t i = 0; i < sum_count(); ++i) sum(i).fill(first, last, 0, panels_of(i), right + i);
    });
  }

  void fill(bool small, int64_t begin, int64_t end) const {
    SumTasks<Main, Extra> sums[kMostJoint];
    int64_t tasks = 0;
    for (int64_t i = 0; i < sum_count(); ++i) {
      sums[i] = {sum(i), begin, end};
      tasks += sums[i].tasks;
    }
    for_tasks(small, tasks, [&](int64_t task) {
      const SumTasks<Main, Extra>* sum = sums;
      for (; task >= sum->tasks; ++sum) task -= sum->tasks;
      sum->run(task);
    });
  }
};

/// Adds the products from `next` on to the job, and runs it while their memory lives.
template <class Main, class Extra>
void run_products(const GemmJointArgs& joint, int64_t next, Job<Main, Extra>& job) {
  if (next == joint.count) return job.run();
  const GemmArgs& args = joint.products[next];
  if (args.y != nullptr && args.n == 0) return run_products(joint, next + 1, job);
  const WideBias<typename Main::Accumulator> bias(args);
  if (!joint.summed && has_few_rows(args)) {
    few_rows<Main, Extra>(args, bias.values());
    return run_products(joint, next + 1, job);
  }
  const BlockTerms terms(args, kRows, left_bytes<Extra>);
  Scratch packed(terms.packed_bytes());
  const int64_t steps = args.right.empty() ? 0 : steps_of<Main>(args.k);
  const int64_t passes = steps > kPassSteps ? ceil_div(steps, kPassSteps) : 1;
  const int64_t pass_steps = ceil_div(ceil_div(steps, passes), kVector) * kVector;  // whole squares of panels made on the fly
  const bool alike = args.x_dtype == dtype_of(typename Main::Element{}) && args.x_column_stride == 1 && args.k % Main::kDepth == 0;
  const bool aliased = args.m >= kRows && args.x_row_stride * size_of(args.x_dtype) % kAliasBytes == 0;
  Product<Main, Extra> product{args, terms, bias.values(), packed.as<char>(), steps, within(pass_steps, 1, kPassSteps), !alike || aliased};
  job.products[job.count++] = &product;
  run_products(joint, next + 1, job);
}

template <class Main, class Extra>
void run_job(const GemmJointArgs& joint) {
  Job<Main, Extra> job{{}, 0, joint.summed};
  run_products(joint, 0, job);
}

void gemm_joint(const GemmJointArgs& joint) {
  const GemmArgs& first = joint.products[0];
  if (first.m == 0) return;
  if (first.right.panel == Panel::int8 && !first.right.empty()) {
    for (int64_t i = 0; i < joint.count; ++i) {
      if (joint.products[i].n > 0) gemm_int8(joint.products[i]);
    }
    return;
  }
  switch (first.arithmetic) {
    case Arithmetic::f64: return run_job<KindF64, KindF64>(joint);
    case Arithmetic::f32: return first.right.panel == Panel::bf16 ? run_job<KindWiden, KindF32>(joint) : run_job<KindF32, KindF32>(joint);
    case Arithmetic::bf16_pairs:
#if defined(__AVX512BF16__)
      return run_job<KindPairs, KindPairs>(joint);
#else
      return;
#endif
  }
}

void gemm(const GemmArgs& args) { gemm_joint({&args, 1, false}); }

LORIKEET_KERNEL(gemm_kernel, gemm)
LORIKEET_KERNEL(gemm_joint_kernel, gemm_joint)

}  // namespace lorikeet::LORIKEET_LEVEL
