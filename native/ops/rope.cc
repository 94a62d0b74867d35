#include "ops/rope.h"

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

struct Tables {
  Tensor cos, sin, positions;
  int64_t count;  // positions the tables have
};

void check_positions(const Tables& tables) {
  const Tensor& p = tables.positions;
  for (int64_t i = 0; i < p.numel(); ++i) {
    int64_t position = p.dtype() == DType::i64 ? p.data<int64_t>()[i] : p.data<int32_t>()[i];
    check_argument(position >= 0 && position < tables.count, "rope: a position is outside the tables; got ", position, " in row ",
                   i / p.size(1), ", expected 0 to ", tables.count - 1);
  }
}

Tensor turned(const char* name, const Tensor& x, const Tables& tables, bool inverse) {
  Tensor y = empty_like(x);
  RopeArgs args{x.dtype(), tables.positions.dtype(), nullptr, nullptr, nullptr, nullptr, nullptr, x.size(0) * x.size(1), x.size(2),
                x.size(3), tables.cos.size(1),       inverse};
  enqueue(name, {x, tables.cos, tables.sin, tables.positions}, {y}, [args, x = x.detach(), y = y.detach(), tables]() mutable {
    check_positions(tables);
    args.x = x.raw();
    args.cos = tables.cos.data<float>();
    args.sin = tables.sin.data<float>();
    args.positions = tables.positions.raw();
    args.out = y.raw();
    rope_kernel(args);
  });
  return y;
}

}  // namespace

Tensor rope(const Tensor& input, const Tensor& cos, const Tensor& sin, const Tensor& positions) {
  check_argument(is_float(input.dtype()), "rope: needs a floating tensor; got ", name_of(input.dtype()), ", cast it first");
  check_shape(input.rank() == 4, "rope: x must have four dimensions; got ", to_string(input.shape()), ", expected [B, T, H, K]");
  check_argument(cos.dtype() == DType::f32 && sin.dtype() == DType::f32, "rope: tables must be f32; got cos ", name_of(cos.dtype()),
                 " and sin ", name_of(sin.dtype()));
  check_shape(cos.rank() == 2 && cos.shape() == sin.shape() && 2 * cos.size(1) <= input.size(3), "rope: tables do not fit; got cos ",
              to_string(cos.shape()), " and sin ", to_string(sin.shape()), " for x ", to_string(input.shape()),
              ", expected [P, R/2] with R <= K");
  check_argument(positions.dtype() == DType::i64 || positions.dtype() == DType::i32, "rope: positions must be i64 or i32; got ",
                 name_of(positions.dtype()));
  check_shape(positions.shape() == (Shape{input.size(0), input.size(1)}), "rope: positions have the wrong shape; got ",
              to_string(positions.shape()), ", expected [B, T] of x ", to_string(input.shape()));
  for (const Tensor* x : {&input, &cos, &sin, &positions})
    check(x->device() == Device::cpu, ErrorCode::device, "rope: no cuda kernel in this build");
  Tensor x = contiguous(input);
  Tables tables{contiguous(cos).detach(), contiguous(sin).detach(), contiguous(positions).detach(), cos.size(0)};
  Tensor y = turned("rope", x, tables, false);
  if (needs_record({&x})) {
    Saved saved_cos(tables.cos), saved_sin(tables.sin), saved_positions(tables.positions);
    record("rope", {x}, {y}, [=, count = tables.count](const Tensors& gradients, const Wanted&) -> Tensors {
      Tables kept{saved_cos.get("rope"), saved_sin.get("rope"), saved_positions.get("rope"), count};
      return {turned("rope backward", contiguous(gradients[0]), kept, true)};
    });
  }
  return y;
}

}  // namespace lorikeet
