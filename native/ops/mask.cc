#include "ops/mask.h"

#include <algorithm>
#include <limits>

#include "core/autograd.h"
#include "core/gradient-ops.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

/// Largest side of a block whose entries an int64_t still counts.
constexpr int64_t kLargestBlock = std::numeric_limits<int32_t>::max();

int64_t mask_bytes(int64_t n) { return n / 8 + (n % 8 != 0 ? 1 : 0); }

void check_bits(const char* op, const Tensor& bits, int64_t n) {
  check_argument(n >= 0, op, ": the number of entries cannot be negative; got ", n);
  check_argument(bits.dtype() == DType::u8 && bits.shape() == Shape{mask_bytes(n)}, op, ": the bitmask does not fit; got ",
                 name_of(bits.dtype()), to_string(bits.shape()), ", expected u8", to_string(Shape{mask_bytes(n)}), " for ", n, " entries");
  check(bits.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
}

void check_countable(const char* op, int64_t n) {
  check_argument(n <= std::numeric_limits<int32_t>::max(), op, ": too many entries for an index list; got ", n, ", expected at most ",
                 std::numeric_limits<int32_t>::max(), "; use a bitmask");
}

/// Bits or blocks of one task: about kListChunk elements, whole words of the bitmask.
int64_t chunk_of(int64_t block) {
  int64_t entries = kListChunk / (block * block) / 64 * 64;
  return entries < 64 ? 64 : entries;
}

/// Entries of the mask over x.
int64_t grid_size(const char* op, const Tensor& x, int64_t block) {
  check_argument(block >= 1 && block <= kLargestBlock, op, ": the block must be from 1 to ", kLargestBlock, "; got ", block);
  if (block == 1) return x.numel();
  check_shape(x.rank() == 2 && x.size(0) % block == 0 && x.size(1) % block == 0, op, ": blocks of ", block, " x ", block,
              " need a matrix that they divide; got ", to_string(x.shape()));
  return x.numel() / (block * block);
}

Shape compact_shape(int64_t count, int64_t block) { return block == 1 ? Shape{count} : Shape{count, block, block}; }

/// Queues a copy between contiguous tensors.
void enqueue_masked_copy(const char* op, const Tensor& dense, const Tensor& mask, const Tensor& compact, int64_t block, bool to_compact) {
  const int64_t size = dense.numel() / (block * block), columns = block == 1 ? 0 : dense.size(1), count = compact.numel() / (block * block);
  const Tensors inputs = to_compact ? Tensors{dense, mask} : Tensors{dense, compact, mask};
  enqueue(op, inputs, {to_compact ? compact : dense}, [=, dense = dense.detach(), mask = mask.detach(), compact = compact.detach()] {
    MaskReader reader(op, mask, size, count, chunk_of(block));
    masked_copy_kernel({reader.entries(), size_of(dense.dtype()), block, columns, dense.raw(), compact.raw(), to_compact});
  });
}

}  // namespace

void check_mask(const char* op, const Tensor& mask, int64_t size, int64_t count) {
  check_argument(count >= 0 && count <= size, op, ": a mask cannot own ", count, " of ", size, " entries");
  if (mask.dtype() == DType::u8) {
    check_bits(op, mask, size);
  } else {
    check_countable(op, size);
    check_argument(mask.dtype() == DType::i32 && mask.shape() == Shape{count}, op, ": the index list does not fit; got ",
                   name_of(mask.dtype()), to_string(mask.shape()), ", expected i32", to_string(Shape{count}), " or a bitmask in u8",
                   to_string(Shape{mask_bytes(size)}));
  }
  check(mask.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
}

MaskReader::MaskReader(const char* op, const Tensor& mask, int64_t size, int64_t count, int64_t chunk)
    : entries_{nullptr, nullptr, nullptr, size, count, chunk} {
  if (mask.dtype() != DType::u8) {
    const int32_t* at = entries_.indices = mask.data<int32_t>();
    // Places that rise within the range never alias, which the kernels rely on.
    int64_t wrong = count > 0 && at[0] < 0 ? 1 : 0;
    for (int64_t j = 1; j < count; ++j) wrong += at[j] <= at[j - 1] ? 1 : 0;
    check_argument(wrong == 0 && (count == 0 || at[count - 1] < size), op, ": the index list is out of order or outside the tensor; ",
                   wrong, " of ", count, " places do not rise and the last is ", count == 0 ? -1 : at[count - 1],
                   ", expected rising places from 0 to ", size - 1);
    return;
  }
  entries_.bits = mask.data<uint8_t>();
  offsets_.resize(static_cast<size_t>(entries_.tasks()) + 1);
  mask_count_kernel({entries_.bits, size, chunk, offsets_.data()});
  int64_t before = 0;
  for (int64_t& offset : offsets_) {
    const int64_t owned = &offset == &offsets_.back() ? 0 : offset;
    offset = before;
    before += owned;
  }
  check_argument(before == count, op, ": the mask owns another number of entries; got ", before, ", expected ", count);
  entries_.offsets = offsets_.data();
}

std::vector<Tensor> top_k_mask(const std::vector<Tensor>& xs, int64_t k) {
  int64_t total = 0;
  Tensors inputs, masks;
  for (const Tensor& x : xs) {
    check_argument(is_float(x.dtype()), "topKMask: needs floating tensors; got ", name_of(x.dtype()), ", cast it first");
    check_argument((x.dtype() == DType::f64) == (xs[0].dtype() == DType::f64),
                   "topKMask: f64 cannot be compared with other dtypes; got f64 and ",
                   name_of(x.dtype() == DType::f64 ? xs[0].dtype() : x.dtype()));
    check(x.device() == Device::cpu, ErrorCode::device, "topKMask: no cuda kernel in this build");
    inputs.push_back(contiguous(x.detach()));
    masks.push_back(empty(Shape{mask_bytes(x.numel())}, DType::u8));
    total += x.numel();
  }
  check_argument(k >= 0 && k <= total, "topKMask: k is outside the tensors; got k ", k, ", expected 0 to ", total);
  enqueue("topKMask", inputs, masks, [=, masks = detached(masks)] {
    TensorList list;
    for (size_t i = 0; i < inputs.size(); ++i) list.add({inputs[i].dtype(), inputs[i].numel(), {inputs[i].raw(), masks[i].raw()}, {}});
    top_k_mask_kernel({list.args(), k});
  });
  return masks;
}

Tensor mask_count(const Tensor& bits, int64_t n) {
  check_bits("maskCount", bits, n);
  Tensor packed = contiguous(bits), count = empty(Shape{}, DType::i64);
  enqueue("maskCount", {packed}, {count}, [=] {
    std::vector<int64_t> counts(static_cast<size_t>((n + kListChunk - 1) / kListChunk));
    mask_count_kernel({packed.data<uint8_t>(), n, kListChunk, counts.data()});
    int64_t total = 0;
    for (int64_t owned : counts) total += owned;
    *count.data<int64_t>() = total;
  });
  return count;
}

Tensor mask_indices(const Tensor& bits, int64_t n, int64_t count) {
  check_bits("maskIndices", bits, n);
  check_countable("maskIndices", n);
  check_argument(count >= 0 && count <= n, "maskIndices: a mask cannot own ", count, " of ", n, " entries");
  Tensor packed = contiguous(bits), indices = empty(Shape{count}, DType::i32);
  enqueue("maskIndices", {packed}, {indices}, [=] {
    MaskReader reader("maskIndices", packed, n, count, kListChunk);
    mask_indices_kernel({reader.entries(), indices.data<int32_t>()});
  });
  return indices;
}

Tensor index_mask(const Tensor& input, int64_t n) {
  check_mask("indexMask", input, n, input.numel());
  check_argument(input.dtype() == DType::i32, "indexMask: needs an index list; got ", name_of(input.dtype()), ", expected i32");
  Tensor indices = contiguous(input), bits = empty(Shape{mask_bytes(n)}, DType::u8);
  enqueue("indexMask", {indices}, {bits}, [=] {
    MaskReader reader("indexMask", indices, n, indices.numel(), kListChunk);
    auto out = bits.data<uint8_t>();
    std::fill(out, out + bits.numel(), uint8_t{0});
    for (int64_t j = 0; j < reader.entries().count; ++j) {
      const int32_t at = reader.entries().indices[j];
      out[at / 8] = static_cast<uint8_t>(out[at / 8] | 1 << at % 8);
    }
  });
  return bits;
}

Tensor expand_block_mask(const Tensor& input, int64_t rows, int64_t columns, int64_t block) {
  check_argument(block >= 1 && rows >= 0 && columns >= 0 && rows % block == 0 && columns % block == 0, "expandBlockMask: blocks of ", block,
                 " x ", block, " do not divide the matrix; got [", rows, ", ", columns, "]");
  const int64_t across = columns / block, entries = Shape{rows, columns}.numel();
  check_bits("expandBlockMask", input, rows / block * across);
  Tensor grid = contiguous(input), bits = empty(Shape{mask_bytes(entries)}, DType::u8);
  enqueue("expandBlockMask", {grid}, {bits}, [=] {
    auto from = grid.data<uint8_t>();
    auto to = bits.data<uint8_t>();
    std::fill(to, to + bits.numel(), uint8_t{0});
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t b = 0; b < across; ++b) {
        const int64_t entry = row / block * across + b;
        if ((from[entry / 8] >> entry % 8 & 1) == 0) continue;
        for (int64_t i = row * columns + b * block, end = i + block; i < end; ++i) to[i / 8] = static_cast<uint8_t>(to[i / 8] | 1 << i % 8);
      }
    }
  });
  return bits;
}

Tensor masked_gather(const Tensor& input, const Tensor& given_mask, int64_t count, int64_t block) {
  check(input.device() == Device::cpu, ErrorCode::device, "maskedGather: no cuda kernel in this build");
  check_mask("maskedGather", given_mask, grid_size("maskedGather", input, block), count);
  Tensor mask = contiguous(given_mask.detach());
  Tensor x = contiguous(input), values = empty(compact_shape(count, block), x.dtype());
  enqueue_masked_copy("maskedGather", x, mask, values, block, true);
  if (is_float(x.dtype()) && needs_record({&x})) {
    Saved saved(mask);
    record("maskedGather", {x}, {values}, [=, shape = x.shape()](const Tensors& dy, const Wanted&) -> Tensors {
      Tensor dx = filled(shape, dy[0].dtype(), Device::cpu, 0);
      enqueue_masked_copy("maskedGather backward", dx, saved.get("maskedGather"), contiguous(dy[0]), block, false);
      return {dx};
    });
  }
  return values;
}

static void check_values(const char* op, const Tensor& x, const Tensor& mask, const Tensor& values, int64_t block) {
  check(x.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
  const int64_t size = grid_size(op, x, block), count = values.numel() / (block * block);
  check_shape(values.shape() == compact_shape(count, block), op, ": values are one for each owned entry; got ", to_string(values.shape()),
              block == 1 ? ", expected [owned]" : ", expected [owned, block, block]");
  check_argument(values.dtype() == x.dtype(), op, ": values and tensor differ in dtype; got ", name_of(values.dtype()), " and ",
                 name_of(x.dtype()));
  check_mask(op, mask, size, count);
}

void masked_scatter(const Tensor& target, const Tensor& mask, const Tensor& values, int64_t block) {
  check_values("maskedScatter", target, mask, values, block);
  check_argument(target.is_contiguous(), "maskedScatter: the target must be contiguous; got a strided ", to_string(target.shape()));
  mark_changed("maskedScatter", target);
  enqueue_masked_copy("maskedScatter", target, contiguous(mask.detach()), contiguous(values.detach()), block, false);
}

Tensor masked_update(const Tensor& input, const Tensor& given_mask, const Tensor& input_values, bool adds, int64_t block) {
  check_values("maskedUpdate", input, given_mask, input_values, block);
  Tensor mask = contiguous(given_mask.detach());
  check_argument(is_float(input.dtype()), "maskedUpdate: needs a floating tensor; got ", name_of(input.dtype()));
  Tensor x = contiguous(input), values = contiguous(input_values), y;
  {
    NoGrad no_grad;
    y = clone(x);
    Tensor owned = values;
    if (adds) {
      owned = empty(values.shape(), x.dtype());
      enqueue_masked_copy("maskedUpdate", x, mask, owned, block, true);
      owned = add_gradients(owned, values);
    }
    enqueue_masked_copy("maskedUpdate", y, mask, owned, block, false);
  }
  if (needs_record({&x, &values})) {
    Saved saved(mask);
    record("maskedUpdate", {x, values}, {y}, [=, shape = values.shape()](const Tensors& gradients, const Wanted& wanted) -> Tensors {
      const Tensor& mask = saved.get("maskedUpdate");
      Tensor dy = contiguous(gradients[0]), dx, dvalues;
      if (wanted[1]) {
        dvalues = empty(shape, dy.dtype());
        enqueue_masked_copy("maskedUpdate backward", dy, mask, dvalues, block, true);
      }
      if (wanted[0]) {
        dx = adds ? dy : clone(dy);
        if (!adds) enqueue_masked_copy("maskedUpdate backward", dx, mask, filled(shape, dy.dtype(), Device::cpu, 0), block, false);
      }
      return {dx, dvalues};
    });
  }
  return y;
}

}  // namespace lorikeet
