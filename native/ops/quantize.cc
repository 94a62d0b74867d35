#include "ops/quantize.h"

#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

Tensor checked(const char* op, const Tensor& x) {
  check_argument(is_float(x.dtype()), op, ": needs a floating tensor; got ", name_of(x.dtype()));
  check(x.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
  return contiguous(x.detach());
}

}  // namespace

std::vector<Tensor> quantize_nf4(const Tensor& input, int64_t block) {
  check_argument(block >= 32 && block <= 4096 && (block & (block - 1)) == 0,
                 "quantizeNf4: blockSize must be a power of two from 32 to 4096; got ", block);
  Tensor x = checked("quantizeNf4", input);
  const int64_t count = x.numel();
  Tensor codes = empty({(count + 1) / 2}, DType::u8), scales = empty({(count + block - 1) / block}, DType::f32);
  enqueue("quantizeNf4", {x}, {codes, scales}, [=] {
    quantize_nf4_kernel({x.raw(), x.dtype(), count, block, codes.data<uint8_t>(), scales.data<float>()});
  });
  return {codes, scales};
}

std::vector<Tensor> quantize_scales(const Tensor& input) {
  check_argument(input.dtype() == DType::f32 && input.rank() == 1, "quantizeScales: needs f32 scales of one dimension");
  Tensor x = contiguous(input.detach());
  const int64_t count = x.numel();
  Tensor codes = empty({count}, DType::u8), scales = empty({(count + kNestedBlock - 1) / kNestedBlock}, DType::f32);
  Tensor offset = empty({1}, DType::f32);
  enqueue("quantizeScales", {x}, {codes, scales, offset}, [=] {
    quantize_scales_kernel({x.data<float>(), count, codes.data<uint8_t>(), scales.data<float>(), offset.data<float>()});
  });
  return {codes, scales, offset};
}

std::vector<Tensor> quantize_int8(const Tensor& input) {
  check_shape(input.rank() == 2, "quantizeInt8: a weight has two dimensions [outputs, inputs]; got ", to_string(input.shape()));
  Tensor x = checked("quantizeInt8", input);
  const int64_t rows = x.size(0), columns = x.size(1);
  Tensor codes = empty(x.shape(), DType::u8), scales = empty({rows}, DType::f32);
  enqueue("quantizeInt8", {x}, {codes, scales}, [=] {
    quantize_int8_kernel({x.raw(), x.dtype(), rows * columns, columns, codes.data<uint8_t>(), scales.data<float>()});
  });
  return {codes, scales};
}

}  // namespace lorikeet
