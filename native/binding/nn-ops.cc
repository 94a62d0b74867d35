#include "binding/bind.h"
#include "ops/concat.h"
#include "ops/conv.h"
#include "ops/dropout.h"
#include "ops/gather.h"
#include "ops/index-select.h"
#include "ops/layer-norm.h"
#include "ops/rms-norm.h"
#include "ops/swiglu.h"
#include "ops/top-k.h"

// Ops of network layers: norms, convolutions, gated activations, look-ups, joining, dropout.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(rms_norm, "rmsNorm")
  OP(layer_norm, "layerNorm")
  OP(add_rms_norm, "addRmsNorm")
  OP(add_layer_norm, "addLayerNorm")
  OP(conv2d, "conv2d")
  OP(swiglu, "swiGlu")
  OP(embedding, "embedding")
  OP(index_select, "indexSelect")
  OP(gather, "gather")
  OP(scatter_add, "scatterAdd")
  OP(top_k, "topK")
  OP(concatenate, "concat")
  OP(dropout, "dropout")
}

static BindingPart part(bind);

}  // namespace lorikeet
