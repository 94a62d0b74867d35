#include "ops/stored-tensor.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "algo/gguf-blocks.h"
#include "core/mapped-file.h"
#include "core/parallel.h"
#include "core/stream.h"
#include "ops/copy.h"

namespace lorikeet {
namespace {

/// The shape's element count, checked not to overflow.
int64_t elements_of(const char* op, const Shape& shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    check_shape(size >= 0, op, ": negative size in shape ", to_string(shape));
    if (size == 0) return 0;
  }
  for (int64_t size : shape) {
    check_shape(count <= std::numeric_limits<int64_t>::max() / 16 / size, op, ": too many elements in shape ", to_string(shape));
    count *= size;
  }
  return count;
}

std::shared_ptr<MappedFile> map_range(const char* op, const std::string& path, int64_t file_bytes, int64_t offset, int64_t bytes) {
  std::shared_ptr<MappedFile> file = MappedFile::shared(path, file_bytes);
  check(file->size() == file_bytes, ErrorCode::io, path, ": the file has changed; got ", file->size(), " bytes, expected ", file_bytes);
  check(offset >= 0 && bytes <= file->size() && offset <= file->size() - bytes, ErrorCode::io, path, ": ", op, ": bytes ", offset, " to ",
        offset + bytes, " are not inside the file of ", file->size());
  return file;
}

/// Row of the result that a row of the file becomes.
int64_t target_row(int64_t row, int64_t head_rows) {
  if (head_rows == 0) return row;
  int64_t in_head = row % head_rows;
  return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}

/// Rows of blocks in a file, checked to lie in it.
struct BlockRows {
  const GgufBlockType* block;
  std::shared_ptr<MappedFile> file;
  int64_t rows, width, row_bytes, head_rows;
};

BlockRows block_rows(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                     int64_t interleaved_heads) {
  const GgufBlockType* block = type >= 0 && type < 256 ? gguf_block_type(static_cast<uint32_t>(type)) : nullptr;
  check(block != nullptr, ErrorCode::io, path, ": ggufTensor: blocks of type ", type, " cannot be read");
  int64_t count = elements_of("ggufTensor", shape);
  int64_t width = shape.rank() == 0 ? 1 : shape.back();
  int64_t rows = width == 0 ? 0 : count / width;
  check_shape(width % block->block_size == 0, "ggufTensor: rows are no whole number of blocks; got shape ", to_string(shape),
              ", expected a multiple of ", block->block_size);
  // A vector with one value per row (a bias) is permuted by value.
  bool by_value = shape.rank() == 1 && interleaved_heads > 0;
  if (by_value) {
    check_shape(block->block_size == 1, "ggufTensor: a vector in interleaved order must not be in blocks; got ", block->name);
    rows = count;
    width = 1;
  }
  check_shape(interleaved_heads >= 0 && (interleaved_heads == 0 || rows % (2 * interleaved_heads) == 0),
              "ggufTensor: rows do not fit the heads; got ", rows, " rows, expected a multiple of ", 2 * interleaved_heads);
  int64_t row_bytes = width / block->block_size * block->type_size;
  std::shared_ptr<MappedFile> file = map_range("ggufTensor", path, file_bytes, offset, rows * row_bytes);
  return {block, std::move(file), rows, width, row_bytes, interleaved_heads > 0 ? rows / interleaved_heads : 0};
}

}  // namespace

Tensor mapped_tensor(const std::string& path, int64_t file_bytes, int64_t offset, DType dtype, const Shape& shape) {
  int64_t bytes = elements_of("mappedTensor", shape) * size_of(dtype);
  std::shared_ptr<MappedFile> file = map_range("mappedTensor", path, file_bytes, offset, bytes);
  const uint8_t* start = file->data() + offset;
  if (bytes > 0 && reinterpret_cast<uintptr_t>(start) % static_cast<uintptr_t>(size_of(dtype)) == 0) {
    auto storage = std::make_shared<Storage>(start, bytes, file);
    return Tensor(std::move(storage), dtype, shape, contiguous_strides(shape), 0);
  }
  Tensor y = empty(shape, dtype);
  enqueue("mappedTensor", {}, {y}, [=] {
    if (bytes > 0) std::memcpy(y.raw(), file->data() + offset, static_cast<size_t>(bytes));
  });
  return y;
}

Tensor gguf_tensor(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                   int64_t interleaved_heads) {
  BlockRows source = block_rows(path, file_bytes, offset, type, shape, interleaved_heads);
  Tensor y = empty(shape, DType::f32);
  enqueue("ggufTensor", {}, {y}, [=] {
    const auto& [block, file, rows, width, row_bytes, head_rows] = source;
    constexpr int64_t kValuesPerTask = 1 << 16;
    int64_t step = width > 0 ? std::max<int64_t>(1, kValuesPerTask / width) : 1;
    const uint8_t* blocks = file->data() + offset;
    float* values = y.data<float>();
    file->will_need(offset, rows * row_bytes);
    parallel_for((rows + step - 1) / step, [&, &source = source](int64_t task) {
      for (int64_t row = task * step; row < std::min(source.rows, (task + 1) * step); ++row) {
        gguf_dequantize(*source.block, blocks + row * source.row_bytes, source.width,
                        values + target_row(row, source.head_rows) * source.width);
      }
    });
    // The blocks are not needed again: the values are here.
    file->done_with(offset, rows * row_bytes);
  });
  return y;
}

Tensor gguf_blocks(const std::string& path, int64_t file_bytes, int64_t offset, int64_t type, const Shape& shape,
                   int64_t interleaved_heads) {
  BlockRows source = block_rows(path, file_bytes, offset, type, shape, interleaved_heads);
  Tensor y = empty({source.rows, source.row_bytes}, DType::u8);
  enqueue("ggufBlocks", {}, {y}, [=] {
    const int64_t bytes = source.rows * source.row_bytes;
    source.file->will_need(offset, bytes);
    for (int64_t row = 0; row < source.rows; ++row) {
      std::memcpy(y.data<uint8_t>() + target_row(row, source.head_rows) * source.row_bytes,
                  source.file->data() + offset + row * source.row_bytes, static_cast<size_t>(source.row_bytes));
    }
    source.file->done_with(offset, bytes);
  });
  return y;
}

Tensor as_bytes(const Tensor& x) {
  Tensor source = contiguous(x);
  int64_t size = size_of(x.dtype());
  Shape bytes{source.numel() * size};
  return Tensor(source.storage(), DType::u8, bytes, contiguous_strides(bytes), source.offset() * size);
}

}  // namespace lorikeet
