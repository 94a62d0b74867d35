// Rows of a quantised matrix as floats, one task each some rows.

#include "cpu/level.h"

#include "cpu/quantized-groups.h"
#include "cpu/row-tasks.h"

namespace lorikeet::LORIKEET_LEVEL {

template <class Groups, class T>
void dequantize_row(const QuantizedMatrix& w, int64_t row, T* out) {
  for (int64_t first = 0; first < w.columns; first += kQuantizedGroup) {
    const int64_t count = w.columns - first < kQuantizedGroup ? w.columns - first : kQuantizedGroup;
    alignas(64) float values[kQuantizedGroup];
    Groups::group(w, row, first, count, values);
    for (int64_t j = 0; j < count; ++j) store(out + first + j, static_cast<compute_t<T>>(values[j]));
  }
}

void dequantize(const DequantizeArgs& args) {
  for_each_row(args.count, args.matrix.columns, [&](int64_t i) {
    const int64_t row = args.index == nullptr ? args.first + i : args.index[i];
    LORIKEET_QUANTIZATION_SWITCH(
        args.matrix.format, Groups,
        LORIKEET_FLOAT_SWITCH(args.out_dtype, T,
                              dequantize_row<Groups>(args.matrix, row, static_cast<T*>(args.out) + i * args.matrix.columns)))
  });
}

LORIKEET_KERNEL(dequantize_kernel, dequantize)

}  // namespace lorikeet::LORIKEET_LEVEL
