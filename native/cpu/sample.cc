#include "ops/sample.h"
#include "core/rng.h"
#include "cpu/lanes.h"
#include "cpu/level.h"
#include "cpu/row-tasks.h"
#include "cpu/vector-math.h"

// Nothing is sorted. A float's bits, mapped so that unsigned order is the order of the floats, are searched digit by digit (11, 11 and 10
// bits): a histogram of counts finds the k-th largest value, a histogram of probability mass finds the value where the mass of everything
// larger reaches p.

namespace lorikeet::LORIKEET_LEVEL {
namespace {

LORIKEET_INLINE uint32_t ordered(float x) {
  uint32_t bits = float_to_bits(x + 0.0f);  // -0 becomes 0
  return bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
}

/// Tokens still in the running, in order of index.
struct Candidates {
  int32_t* index;
  float* logit;
  float* weight;  // e^((logit - largest) / temperature)
  int64_t count;
};

struct Digit {
  int shift, bits;
};
constexpr Digit kDigits[3] = {{21, 11}, {10, 11}, {0, 10}};

/// Where a cut goes through: everything above `value` stays, and the first `ties` candidates that equal it.
struct Cut {
  uint32_t value;
  int64_t ties;
};

/// Follows the largest digits down while Σ amount of what lies above stays below `wanted`; `above` becomes that sum.
template <class Amount>
LORIKEET_INLINE uint32_t find_value(const Candidates& set, double wanted, double& above, double* __restrict__ histogram,
                                    const Amount& amount) {
  uint32_t prefix = 0, mask = 0;
  above = 0;
  for (Digit digit : kDigits) {
    int buckets = 1 << digit.bits;
    for (int b = 0; b < buckets; ++b) histogram[b] = 0;
    for (int64_t i = 0; i < set.count; ++i) {
      uint32_t key = ordered(set.logit[i]);
      if ((key & mask) == prefix) histogram[key >> digit.shift & static_cast<uint32_t>(buckets - 1)] += amount(i);
    }
    // Where rounding keeps the sum below `wanted`, the cut is the smallest bucket that holds anything.
    int chosen = 0;
    double before = above;
    for (int b = buckets - 1; b >= 0; --b) {
      if (histogram[b] == 0) continue;
      chosen = b;
      above = before;
      before += histogram[b];
      if (before >= wanted) break;
    }
    prefix |= static_cast<uint32_t>(chosen) << digit.shift;
    mask |= static_cast<uint32_t>(buckets - 1) << digit.shift;
  }
  return prefix;
}

void keep(Candidates& set, Cut cut) {
  int64_t count = 0;
  for (int64_t i = 0; i < set.count; ++i) {
    uint32_t key = ordered(set.logit[i]);
    bool stays = key > cut.value || (key == cut.value && cut.ties > 0);
    if (key == cut.value) --cut.ties;
    if (!stays) continue;
    set.index[count] = set.index[i];
    set.logit[count] = set.logit[i];
    set.weight[count] = set.weight[i];
    ++count;
  }
  set.count = count;
}

void keep_top_k(Candidates& set, int64_t k, double* histogram) {
  if (k >= set.count) return;
  double above;
  uint32_t value = find_value(set, static_cast<double>(k), above, histogram, [](int64_t) { return 1.0; });
  keep(set, {value, k - static_cast<int64_t>(above)});
}

double total_weight(const Candidates& set) {
  double total = 0;
  for (int64_t i = 0; i < set.count; ++i) total += static_cast<double>(set.weight[i]);
  return total;
}

void keep_top_p(Candidates& set, double p, double* histogram) {
  if (p >= 1) return;
  double wanted = p * total_weight(set), above;
  uint32_t value = find_value(set, wanted, above, histogram, [&](int64_t i) { return static_cast<double>(set.weight[i]); });
  // As many of the equal ones as it takes, one at least.
  int64_t ties = 0;
  for (int64_t i = 0; i < set.count && (ties == 0 || above < wanted); ++i) {
    if (ordered(set.logit[i]) != value) continue;
    above += static_cast<double>(set.weight[i]);
    ++ties;
  }
  keep(set, {value, ties});
}

/// The candidate on which u of the total weight falls.
int64_t draw(const Candidates& set, double u, double total) {
  double target = u * total, sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < set.count; ++i) {
    if (set.weight[i] == 0.0f) continue;
    last = i;
    sum += static_cast<double>(set.weight[i]);
    if (sum > target) break;
  }
  return last;
}

void sample_row(const SampleArgs& a, int64_t row) {
  const float* logits = a.logits + row * a.columns;
  int64_t n = a.columns;
  float most = lane_max<float>(n, -__builtin_inff(), [&](int64_t i) { return logits[i]; });
  float total = lane_sum<float>(n, [&](int64_t i) { return vexp(logits[i] - most); });
  if (!(total >= 1.0f) || most == __builtin_inff()) {
    a.ids[row] = -1;
    return;
  }
  float lse = most + vlog(total);
  if (a.temperature == 0.0f) {
    int64_t id = 0;
    while (logits[id] != most) ++id;
    a.ids[row] = id;
    a.log_probability[row] = 0.0f;
    a.raw_log_probability[row] = most - lse;
    return;
  }
  Scratch scratch(n * 12 + 2048 * 8);
  double* histogram = scratch.as<double>();
  Candidates set{reinterpret_cast<int32_t*>(histogram + 2048), nullptr, nullptr, n};
  set.logit = reinterpret_cast<float*>(set.index + n);
  set.weight = set.logit + n;
  for (int64_t i = 0; i < n; ++i) {
    set.index[i] = static_cast<int32_t>(i);
    set.logit[i] = logits[i];
    set.weight[i] = vexp((logits[i] - most) / a.temperature);
  }
  keep_top_k(set, a.top_k, histogram);
  keep_top_p(set, a.top_p, histogram);
  Philox random(a.seeds[a.seed_each ? row : 0], a.step, static_cast<uint64_t>(a.seed_each ? 0 : row));
  double u = (static_cast<double>(random.word[0] >> 6) * 0x1p27 + static_cast<double>(random.word[1] >> 5)) * 0x1p-53;
  double weights = total_weight(set);
  int64_t chosen = draw(set, u, weights);
  a.ids[row] = set.index[chosen];
  a.log_probability[row] =
      static_cast<float>(static_cast<double>(set.logit[chosen] - most) / static_cast<double>(a.temperature) - vlog(weights));
  a.raw_log_probability[row] = set.logit[chosen] - lse;
}

void sample(const SampleArgs& a) {
  parallel_for(a.rows, [&](int64_t row) { sample_row(a, row); });
}

template <class T>
void penalise(const PenaltyArgs& a) {
  using C = compute_t<T>;
  C penalty = static_cast<C>(a.penalty);
  for_each_row(a.rows, a.columns, [&](int64_t row) {
    const T* logits = static_cast<const T*>(a.logits) + row * a.columns;
    T* out = static_cast<T*>(a.out) + row * a.columns;
    for (int64_t i = 0; i < a.columns; ++i) out[i] = logits[i];
    for (int64_t j = 0; j < a.count; ++j) {
      int64_t id = a.ids[row * a.count + j];
      if (id < 0) continue;
      C logit = load(logits + id);
      store(out + id, logit < C(0) ? logit * penalty : logit / penalty);
    }
  });
}

void repetition_penalty(const PenaltyArgs& a) { LORIKEET_FLOAT_SWITCH(a.dtype, T, (penalise<T>(a))) }

}  // namespace
}  // namespace lorikeet::LORIKEET_LEVEL

LORIKEET_KERNEL(sample_kernel, lorikeet::LORIKEET_LEVEL::sample)
LORIKEET_KERNEL(repetition_penalty_kernel, lorikeet::LORIKEET_LEVEL::repetition_penalty)
