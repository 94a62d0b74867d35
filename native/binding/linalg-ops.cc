#include "binding/bind.h"
#include "ops/qr.h"
#include "ops/svd.h"

// Decompositions on LAPACK.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(qr, "qr")
  OP(svd, "svd")
}

static BindingPart part(bind);

}  // namespace lorikeet
