#include "binding/bind.h"
#include "ops/mask.h"

// Masks over the entries of tensors, and what they own.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(top_k_mask, "topKMask")
  OP(mask_count, "maskCount")
  OP(mask_indices, "maskIndices")
  OP(index_mask, "indexMask")
  OP(expand_block_mask, "expandBlockMask")
  OP(masked_gather, "maskedGather")
  OP(masked_scatter, "maskedScatter")
  OP(masked_update, "maskedUpdate")
}

static BindingPart part(bind);

}  // namespace lorikeet
