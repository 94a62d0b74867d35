#include "ops/concat.h"

#include "core/autograd.h"
#include "ops/copy.h"
#include "ops/shape.h"

namespace lorikeet {

Tensor concatenate(const std::vector<Tensor>& tensors, int64_t dim) {
  check_argument(!tensors.empty(), "concat: needs at least one tensor; got none");
  const Tensor& first = tensors[0];
  int axis = normalize_dim("concat", dim, first.rank());
  Shape shape = first.shape();
  shape[axis] = 0;
  for (const Tensor& x : tensors) {
    check_argument(x.dtype() == first.dtype() && x.device() == first.device(), "concat: tensors differ in dtype or device; got ",
                   name_of(first.dtype()), " on ", name_of(first.device()), " and ", name_of(x.dtype()), " on ", name_of(x.device()));
    bool fits = x.rank() == first.rank();
    for (int i = 0; fits && i < x.rank(); ++i) fits = i == axis || x.size(i) == first.size(i);
    check_shape(fits, "concat: shapes do not fit; got ", to_string(first.shape()), " and ", to_string(x.shape()),
                ", expected equal sizes but in dimension ", axis);
    shape[axis] += x.size(axis);
  }
  Tensor y = empty(shape, first.dtype(), first.device());
  {
    NoGrad no_grad;
    int64_t start = 0;
    for (const Tensor& x : tensors) {
      copy_into(narrow(y, axis, start, x.size(axis)), x.detach());
      start += x.size(axis);
    }
  }
  if (is_float(y.dtype()) && needs_record(tensors)) {
    std::vector<int64_t> sizes;
    sizes.reserve(tensors.size());
    for (const Tensor& x : tensors) sizes.push_back(x.size(axis));
    record("concat", tensors, {y}, [=](const Tensors& dy, const Wanted& wanted) {
      Tensors gradients(sizes.size());
      int64_t start = 0;
      for (size_t i = 0; i < sizes.size(); start += sizes[i++]) {
        if (wanted[i]) gradients[i] = narrow(dy[0], axis, start, sizes[i]);
      }
      return gradients;
    });
  }
  return y;
}

}  // namespace lorikeet
