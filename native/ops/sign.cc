#include "ops/sign.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

void check_input(const char* op, const Tensor& w) {
  check_argument(is_float(w.dtype()), op, ": needs a floating tensor; got ", name_of(w.dtype()));
  check(w.device() == Device::cpu, ErrorCode::device, op, ": no cuda kernel in this build");
}

/// Writes μ and σ of w, inside stream work. A σ below what rounding makes of equal values counts as none.
void measure(const char* op, const std::string& name, const Tensor& w, double* moments) {
  sign_moments_kernel({w.dtype(), w.raw(), w.numel(), moments});
  const auto what = [&] { return concat(op, ": ", name.empty() ? "" : concat("\"", name, "\": "), "the values "); };
  check(std::isfinite(moments[1]), ErrorCode::non_finite, what(), "are not all finite, and have no mean and deviation");
  const double rounding = w.dtype() == DType::f64 ? 0x1p-50 : 0x1p-26;
  check_argument(moments[1] > rounding * std::abs(moments[0]), what(), "of ", to_string(w.shape()),
                 " are all the same and cannot be standardised; start from random ones, such as a truncated normal distribution");
}

int64_t bytes_of(int64_t count, int64_t bits) { return (count * bits + 7) / 8; }

void check_parts(const char* op, const Tensor& codes, const Tensor& moments, const Shape& shape, int64_t bits) {
  check_argument(codes.dtype() == DType::u8 && codes.numel() == bytes_of(shape.numel(), bits), op, ": codes do not fit; got ",
                 codes.numel(), " of ", name_of(codes.dtype()), ", expected ", bytes_of(shape.numel(), bits), " of u8 for ",
                 to_string(shape), " at ", bits, bits == 1 ? " bit" : " bits");
  check_argument(moments.dtype() == DType::f32 && moments.numel() == 2, op, ": needs mean and deviation as two f32; got ", moments.numel(),
                 " of ", name_of(moments.dtype()));
}

/// What every code stands for, f32 [2^bits].
Tensor table_of(const Tensor& moments, int64_t bits) {
  const SignBook* book = &sign_book(bits);
  Tensor source = contiguous(moments.detach()), table = empty({book->count}, DType::f32);
  enqueue("signUnpack", {source}, {table}, [=] {
    const float mean = source.data<float>()[0], deviation = source.data<float>()[1];
    for (int i = 0; i < book->count; ++i) {
      const float scaled = book->narrow.values[i] * deviation;
      table.data<float>()[i] = scaled + mean;
    }
  });
  return table;
}

}  // namespace

Tensor sign_values(int64_t bits) {
  const SignBook* book = &sign_book(bits);
  Tensor values = empty({book->count}, DType::f64);
  enqueue("signValues", {}, {values}, [=] { std::copy_n(book->wide.values, book->count, values.data<double>()); });
  return values;
}

std::vector<Tensor> sign_quantize(const Tensor& input, int64_t bits, const std::string& name) {
  check_input("signQuantize", input);
  const SignBook* book = &sign_book(bits);
  Tensor w = contiguous(input.detach());
  Tensor codes = empty({bytes_of(w.numel(), bits)}, DType::u8), moments = empty({2}, DType::f32);
  enqueue("signQuantize", {w}, {codes, moments}, [=] {
    double measured[2];
    measure("signQuantize", name, w, measured);
    for (int i = 0; i < 2; ++i) moments.data<float>()[i] = static_cast<float>(measured[i]);
    sign_codes_kernel({w.dtype(), w.raw(), w.numel(), bits, book, measured[0], measured[1], nullptr, nullptr, codes.data<uint8_t>()});
  });
  return {codes, moments};
}

Tensor sign_unpack(const Tensor& input, const Tensor& moments, const Shape& shape, int64_t bits, DType dtype) {
  sign_book(bits);
  check_parts("signUnpack", input, moments, shape, bits);
  check_argument(is_float(dtype), "signUnpack: needs a floating dtype; got ", name_of(dtype));
  Tensor codes = contiguous(input.detach()), table = table_of(moments, bits), w = empty(shape, dtype);
  enqueue("signUnpack", {codes, table}, {w}, [=] {
    sign_unpack_kernel({codes.data<uint8_t>(), table.data<float>(), w.numel(), bits, w.raw(), dtype});
  });
  return w;
}

PackedWeightPtr pack_signs(const Tensor& codes, const Tensor& moments, const Shape& shape, DType dtype) {
  check_parts("packSigns", codes, moments, shape, 1);
  return std::make_shared<PackedWeight>(
      quantized_weight(Quantization::sign, shape, 0, codes, table_of(moments, 1), std::nullopt, std::nullopt), dtype);
}

Tensor fake_quantize(const Tensor& input, int64_t bits, const std::string& name) {
  check_input("fakeQuantize", input);
  const SignBook* book = &sign_book(bits);
  Tensor w = contiguous(input), y = empty_like(w), moments = empty({2}, DType::f64);
  enqueue("fakeQuantize", {w}, {y, moments}, [=, w = w.detach(), y = y.detach()] {
    double* measured = moments.data<double>();
    measure("fakeQuantize", name, w, measured);
    sign_round_kernel({w.dtype(), w.raw(), w.numel(), bits, book, measured[0], measured[1], nullptr, y.raw(), nullptr});
  });
  if (needs_record({&w})) {
    Saved saved(w);
    record("fakeQuantize", {w}, {y}, [=](const Tensors& gradients, const Wanted&) -> Tensors {
      const Tensor& w = saved.get("fakeQuantize");
      Tensor dy = contiguous(gradients[0]), dw = empty_like(w);
      enqueue("fakeQuantize backward", {w, moments, dy}, {dw}, [=] {
        const double* measured = moments.data<double>();
        sign_round_backward_kernel({w.dtype(), w.raw(), w.numel(), bits, book, measured[0], measured[1], dy.raw(), dw.raw(), nullptr});
      });
      return {dw};
    });
  }
  return y;
}

}  // namespace lorikeet
