#include "ops/index-select.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"
#include "ops/shape.h"

namespace lorikeet {

void check_index_dtype(const char* op, const Tensor& index) {
  check_argument(index.dtype() == DType::i64 || index.dtype() == DType::i32, op, ": indices must be i64 or i32; got ",
                 name_of(index.dtype()));
}

void check_ids(const char* op, const int64_t* ids, int64_t count, int64_t rows) {
  for (int64_t i = 0; i < count; ++i) {
    check_argument(ids[i] >= 0 && ids[i] < rows, op, ": id ", ids[i], " at position ", i, " is outside the vocabulary; expected 0 to ",
                   rows - 1);
  }
}

namespace {

/// Positions of equal indices brought together, each group in rising order.
struct Groups {
  std::vector<int64_t> order, first, target;

  Groups(const int64_t* index, int64_t count) : order(static_cast<size_t>(count)) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [index](int64_t a, int64_t b) { return index[a] < index[b]; });
    for (int64_t i = 0; i < count; ++i) {
      if (i > 0 && index[order[i]] == index[order[i - 1]]) continue;
      first.push_back(i);
      target.push_back(index[order[i]]);
    }
    first.push_back(count);
  }
};

/// x [outer, size, inner] with the slices `index` [count] of its middle dimension taken into [outer, count, inner]. `thing` and `range`
/// name a bad index.
Tensor select(const char* op, const Tensor& x, const Tensor& index, int64_t outer, int64_t size, int64_t inner, const Shape& result,
              const char* thing, const char* range) {
  Tensor y = empty(result, x.dtype());
  int64_t count = index.numel();
  enqueue(op, {x, index}, {y}, [=, x = x.detach(), y = y.detach()] {
    const int64_t* ids = index.data<int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      check_argument(ids[i] >= 0 && ids[i] < size, op, ": ", thing, " ", ids[i], " at position ", i, " is outside the ", range,
                     "; expected 0 to ", size - 1);
    }
    index_select_kernel({x.raw(), ids, y.raw(), outer, size, count, inner * size_of(x.dtype())});
  });
  if (is_float(x.dtype()) && needs_record({&x})) {
    record(op, {x}, {y}, [=, shape = x.shape(), dtype = x.dtype()](const Tensors& gradients, const Wanted&) -> Tensors {
      Tensor dy = contiguous(gradients[0]), dx = empty(shape, dtype);
      enqueue(op, {dy, index}, {dx}, [=] {
        Groups groups(index.data<int64_t>(), count);
        index_add_kernel({dtype, dy.raw(), dx.raw(), outer, size, count, inner, groups.order.data(), groups.first.data(),
                          groups.target.data(), static_cast<int64_t>(groups.target.size())});
      });
      return {dx};
    });
  }
  return y;
}

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& ids) {
  check_index_dtype("embedding", ids);
  check_shape(weight.rank() == 2, "embedding: the weight must be [vocabulary, width]; got ", to_string(weight.shape()));
  check_argument(is_float(weight.dtype()), "embedding: needs a floating weight; got ", name_of(weight.dtype()));
  check(weight.device() == Device::cpu && ids.device() == Device::cpu, ErrorCode::device, "embedding: no cuda kernel in this build");
  Shape result = ids.shape();
  result.push_back(weight.size(1));
  Tensor index = cast(contiguous(ids.detach()), DType::i64);
  return select("embedding", contiguous(weight), index, 1, weight.size(0), weight.size(1), result, "id", "vocabulary");
}

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  check_index_dtype("indexSelect", index);
  check_shape(index.rank() == 1, "indexSelect: the index must have one dimension; got ", to_string(index.shape()));
  check(x.device() == Device::cpu && index.device() == Device::cpu, ErrorCode::device, "indexSelect: no cuda kernel in this build");
  int axis = normalize_dim("indexSelect", dim, x.rank());
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= x.size(i);
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.size(i);
  Shape result = x.shape();
  result[axis] = index.size(0);
  return select("indexSelect", contiguous(x), cast(contiguous(index.detach()), DType::i64), outer, x.size(axis), inner, result, "index",
                "dimension");
}

}  // namespace lorikeet
