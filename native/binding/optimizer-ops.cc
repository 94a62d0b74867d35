#include "binding/bind.h"
#include "ops/gradient-norm.h"
#include "ops/gradients.h"
#include "ops/optimizers.h"

// Multi-tensor ops of a training step.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(adamw_step, "adamwStep")
  OP(masked_adamw_step, "maskedAdamwStep")
  OP(sgd_step, "sgdStep")
  OP(lion_step, "lionStep")
  OP(adamw_8bit_step, "adamw8bitStep")
  OP(dynamic_map, "dynamicMap")
  OP(global_norm, "globalNorm")
  OP(non_finite_count, "nonFiniteCount")
  OP(have_gradients, "haveGradients")
  OP(clear_gradients, "clearGradients")
  OP(gradient_norm, "gradientNorm")
  OP(non_finite_gradients, "nonFiniteGradients")
  OP(scale_gradients, "scaleGradients")
}

static BindingPart part(bind);

}  // namespace lorikeet
