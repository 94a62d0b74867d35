#include "binding/bind.h"
#include "ops/qr.h"

// Decompositions on LAPACK.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(qr, "qr")
}

static BindingPart part(bind);

}  // namespace lorikeet
