#include "binding/bind.h"
#include "ops/attention.h"
#include "ops/cache-write.h"
#include "ops/copy.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/rope.h"
#include "ops/sample.h"
#include "ops/shape.h"
#include "ops/softmax.h"

// The tensor ops, one line each.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(unary, "unary")
  OP(binary, "binary")
  OP(compare, "compare")
  OP(where, "where")
  OP(reduce, "reduce")
  OP(reshape, "reshape")
  OP(permute, "permute")
  OP(narrow, "narrow")
  OP(expand, "expand")
  OP(contiguous, "contiguous")
  OP(clone, "clone")
  OP(cast, "cast")
  OP(copy_into, "copyInto")
  OP(fill, "fill")
  OP(to_device, "toDevice")
  OP(full, "full")
  OP(arange, "arange")
  OP(uniform, "uniform")
  OP(normal, "normal")
  OP(softmax, "softmax")
  OP(log_softmax, "logSoftmax")
  OP(log_sum_exp, "logSumExp")
  OP(rope, "rope")
  OP(attention_of, "attention")
  OP(cache_write, "cacheWrite")
  OP(sample, "sample")
  OP(repetition_penalty, "repetitionPenalty")
}

static BindingPart part(bind);

}  // namespace lorikeet
