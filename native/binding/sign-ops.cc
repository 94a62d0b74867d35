#include "binding/bind.h"
#include "binding/packed-weight-handle.h"
#include "ops/sign.h"

// Weights of one to eight bits by the code book of a normal distribution.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(sign_values, "signValues")
  OP(sign_quantize, "signQuantize")
  OP(sign_unpack, "signUnpack")
  OP(pack_signs, "packSigns")
  OP(fake_quantize, "fakeQuantize")
}

static BindingPart part(bind);

}  // namespace lorikeet
