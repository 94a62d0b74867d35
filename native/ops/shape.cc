#include "ops/shape.h"

#include "core/autograd.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

Shape resolve(const Tensor& x, Shape shape) {
  int64_t known = 1;
  int unknown = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      check_shape(unknown < 0, "reshape: only one size may be -1; got ", to_string(shape));
      unknown = i;
    } else {
      check_shape(shape[i] >= 0, "reshape: negative size; got ", to_string(shape));
      known *= shape[i];
    }
  }
  if (unknown >= 0 && known > 0) shape[unknown] = x.numel() / known;
  if (unknown >= 0 && known == 0) shape[unknown] = 0;
  check_shape(shape.numel() == x.numel(), "reshape: the number of elements changes; got ", to_string(x.shape()), " to ", to_string(shape));
  return shape;
}

/// Strides that show x's memory in the new shape, if there are any.
bool view_strides(const Tensor& x, const Shape& shape, Shape& strides) {
  strides = contiguous_strides(shape);
  if (x.is_contiguous()) return true;
  // Walk both shapes from the right, matching groups of dimensions with equal products; inside a group x must be one even run.
  int i = x.rank() - 1, j = shape.rank() - 1;
  while (j >= 0 || i >= 0) {
    while (i >= 0 && x.shape()[i] == 1) --i;
    while (j >= 0 && shape[j] == 1) --j;
    if (i < 0 || j < 0) return i < 0 && j < 0;
    int64_t run = x.shape()[i], stride = x.strides()[i], wanted = shape[j];
    strides[j] = stride;
    while (run != wanted) {
      if (run < wanted) {
        --i;
        if (i < 0) return false;
        if (x.shape()[i] == 1) continue;
        if (x.strides()[i] != stride * run) return false;
        run *= x.shape()[i];
      } else {
        --j;
        if (j < 0) return false;
        strides[j] = stride * wanted;
        wanted *= shape[j];
      }
    }
    --i;
    --j;
  }
  return true;
}

void record_view(const char* name, const Tensor& x, const Tensor& y, std::function<Tensor(const Tensor&)> gradient) {
  if (!needs_record({&x})) return;
  record(name, {x}, {y}, [gradient = std::move(gradient)](const Tensors& dy, const Wanted&) { return Tensors{gradient(dy[0])}; });
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& wanted) {
  Shape shape = resolve(x, wanted), strides;
  if (!view_strides(x, shape, strides)) return reshape(contiguous(x), shape);
  Tensor y = x.view(shape, strides, x.offset());
  record_view("reshape", x, y, [shape = x.shape()](const Tensor& dy) { return reshape(dy, shape); });
  return y;
}

Tensor permute(const Tensor& x, const std::vector<int64_t>& order) {
  check_shape(static_cast<int>(order.size()) == x.rank(), "permute: wrong number of dimensions; got ", order.size(), ", expected ",
              x.rank());
  Shape shape(x.rank()), strides(x.rank());
  std::vector<int64_t> inverse(order.size(), -1);
  for (int i = 0; i < x.rank(); ++i) {
    int dim = normalize_dim("permute", order[i], x.rank());
    check_shape(inverse[dim] < 0, "permute: dimension ", dim, " is named twice");
    inverse[dim] = i;
    shape[i] = x.shape()[dim];
    strides[i] = x.strides()[dim];
  }
  Tensor y = x.view(shape, strides, x.offset());
  record_view("permute", x, y, [inverse](const Tensor& dy) { return permute(dy, inverse); });
  return y;
}

Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  int d = normalize_dim("narrow", dim, x.rank());
  check_shape(start >= 0 && length >= 0 && start <= x.size(d) - length, "narrow: range out of bounds; got start ", start, " length ",
              length, " in dimension ", d, " of ", to_string(x.shape()));
  Shape shape = x.shape();
  shape[d] = length;
  Tensor y = x.view(shape, x.strides(), x.offset() + start * x.strides()[d]);
  record_view("narrow", x, y, [shape = x.shape(), d, start, length](const Tensor& dy) {
    Tensor dx = empty(shape, dy.dtype(), dy.device());
    fill(dx, 0);
    copy_into(narrow(dx, d, start, length), dy);
    return dx;
  });
  return y;
}

Tensor expand(const Tensor& x, const Shape& shape) {
  check_shape(broadcast_shapes("expand", x.shape(), shape) == shape, "expand: shape does not fit; got ", to_string(x.shape()), " to ",
              to_string(shape));
  Shape strides(shape.rank());
  int lead = shape.rank() - x.rank();
  for (int i = 0; i < x.rank(); ++i) strides[lead + i] = x.shape()[i] == 1 && shape[lead + i] != 1 ? 0 : x.strides()[i];
  Tensor y = x.view(shape, strides, x.offset());
  // The engine sums the gradient down to x's shape.
  record_view("expand", x, y, [](const Tensor& dy) { return dy; });
  return y;
}

}  // namespace lorikeet
