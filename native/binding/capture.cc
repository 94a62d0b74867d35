#include "core/capture.h"
#include "binding/bind.h"

// Work captured once and launched again and again.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(begin_capture, "beginCapture")
  OP(end_capture, "endCapture")
  OP(launch, "launch")
  OP(drop_capture, "dropCapture")
}

static BindingPart part(bind);

}  // namespace lorikeet
