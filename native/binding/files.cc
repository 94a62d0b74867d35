#include "binding/bind.h"
#include "ops/stored-tensor.h"

// Tensors that come from files, and their bytes for writing.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(mapped_tensor, "mappedTensor")
  OP(gguf_tensor, "ggufTensor")
  OP(as_bytes, "asBytes")
}

static BindingPart part(bind);

}  // namespace lorikeet
