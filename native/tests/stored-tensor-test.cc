#include "ops/stored-tensor.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "algo/gguf-blocks.h"
#include "core/mapped-file.h"
#include "core/stream.h"
#include "tests/harness.h"

// Mapped files, GGUF blocks, and the tensors made from them.

namespace lorikeet {
namespace {

struct TestStream {
  TestStream() { Stream::set_current(&stream); }
  ~TestStream() {
    stream.stop();
    Stream::set_current(nullptr);
  }
  Stream stream;
};

struct TemporaryFile {
  explicit TemporaryFile(const std::vector<uint8_t>& bytes) : path("/tmp/lorikeet-stored-" + std::to_string(getpid())) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  ~TemporaryFile() { std::remove(path.c_str()); }
  std::string path;
};

std::vector<float> read(const Tensor& x) {
  std::vector<float> values(static_cast<size_t>(x.numel()));
  enqueue("read", {x}, {}, [&] {
    if (!values.empty()) std::memcpy(values.data(), x.raw(), values.size() * sizeof(float));
  });
  Stream::current().wait();
  return values;
}

template <class F>
bool fails_with_io(const F& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.code() == ErrorCode::io;
  }
  return false;
}

}  // namespace

NATIVE_TEST(mapped_tensors_share_one_mapping_that_outlives_the_file) {
  TestStream stream;
  std::vector<uint8_t> bytes(1 + 3 * sizeof(float));
  const float values[3] = {1.5f, -2.0f, 3.25f};
  std::memcpy(bytes.data() + 1, values, sizeof values);
  Tensor odd;
  Tensor first;
  {
    TemporaryFile file(bytes);
    int64_t size = static_cast<int64_t>(bytes.size());
    EXPECT(MappedFile::shared(file.path) != nullptr, "the file is there");
    auto one = MappedFile::shared(file.path, size), two = MappedFile::shared(file.path);
    EXPECT(one == two, "one file has one mapping");
    EXPECT(fails_with_io([&] { MappedFile::open(file.path, size + 1); }), "a file that is too short is an error");
    EXPECT(fails_with_io([&] { mapped_tensor(file.path, size - 1, 0, DType::u8, Shape{1}); }), "a file of another size is an error");
    EXPECT(fails_with_io([&] { mapped_tensor(file.path, size, 4, DType::f32, Shape{3}); }), "a range beyond the end is an error");
    EXPECT(fails_with_io([&] { mapped_tensor(file.path, size, -1, DType::u8, Shape{1}); }), "a negative offset is an error");
    odd = mapped_tensor(file.path, size, 1, DType::f32, Shape{3});
    first = mapped_tensor(file.path, size, 0, DType::u8, Shape{1});
    EXPECT(first.storage()->read_only() && !odd.storage()->read_only(), "aligned ranges are mapped, others copied");
  }
  EXPECT(read(odd) == std::vector<float>(values, values + 3), "the values are those of the file");
  EXPECT(as_bytes(odd).numel() == 12, "bytes of a tensor");
  EXPECT(fails_with_io([&] { MappedFile::open("/nowhere"); }), "a missing file is an error");
}

NATIVE_TEST(gguf_rows_are_put_in_order_by_head) {
  TestStream stream;
  // Two heads of four rows of one F16 value each: row r of the file holds r.
  std::vector<uint8_t> bytes;
  for (int row = 0; row < 8; ++row) {
    Float16 value = static_cast<Float16>(static_cast<float>(row));
    uint8_t pair[2];
    std::memcpy(pair, &value, 2);
    bytes.insert(bytes.end(), pair, pair + 2);
  }
  TemporaryFile file(bytes);
  std::vector<float> expected = {0, 2, 1, 3, 4, 6, 5, 7};
  EXPECT(read(gguf_tensor(file.path, 16, 0, 1, Shape{8, 1}, 2)) == expected, "a matrix");
  EXPECT(read(gguf_tensor(file.path, 16, 0, 1, Shape{8}, 2)) == expected, "a vector");
  EXPECT(read(gguf_tensor(file.path, 16, 0, 1, Shape{8}, 0))[1] == 1, "rows as they are");
  EXPECT(read(gguf_tensor(file.path, 16, 0, 1, Shape{0, 4}, 0)).empty(), "nothing");
  EXPECT(fails_with_io([&] { gguf_tensor(file.path, 16, 0, 99, Shape{8}, 0); }), "an unknown type is an error");
}

NATIVE_TEST(gguf_blocks_read_no_byte_beyond_their_end) {
  for (uint32_t id = 0; id < 64; ++id) {
    const GgufBlockType* type = gguf_block_type(id);
    if (type == nullptr) continue;
    for (int fill : {0, 255, 90}) {
      // Exactly sized, so that a sanitizer sees a step too far on either side.
      std::vector<uint8_t> block(static_cast<size_t>(2 * type->type_size), static_cast<uint8_t>(fill));
      std::vector<float> values(static_cast<size_t>(2 * type->block_size));
      gguf_dequantize(*type, block.data(), 2 * type->block_size, values.data());
      EXPECT(fill != 0 || values[values.size() - 1] == 0, "%s: zero bytes are zeros", type->name);
    }
  }
}

}  // namespace lorikeet
