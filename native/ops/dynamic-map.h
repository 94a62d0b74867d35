#pragma once

namespace lorikeet {

/// The table of `dynamic_map` (ops/optimizers.h): 256 rising values, made on the first call.
const float* dynamic_map_values(bool is_signed);

}  // namespace lorikeet
