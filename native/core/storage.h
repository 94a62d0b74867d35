#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>

namespace lorikeet {

class MappedFile;

enum class Device : uint8_t { cpu, cuda };

constexpr const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

/// The bytes behind tensors. Memory is taken when the first work that writes it runs, and given back when the last reference goes: on the
/// engine thread in program order, or on the caller's thread when no queued work uses it.
class Storage {
 public:
  Storage(Device device, int64_t bytes);
  /// Memory inside a mapped file, which is kept mapped. Read-only.
  Storage(const void* memory, int64_t bytes, std::shared_ptr<const MappedFile> file);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device device() const { return device_; }
  int64_t bytes() const { return bytes_; }
  bool read_only() const { return file_ != nullptr; }
  /// The file whose memory it is, or null.
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

  /// Takes memory if it has none. Engine thread.
  void materialize();
  void* data() const { return data_; }

  /// The failure of the work that should have written this storage; consumers of a poisoned storage fail with the same error. Engine
  /// thread.
  const std::exception_ptr& error() const { return error_; }
  void poison(std::exception_ptr error) { error_ = std::move(error); }

  /// Counts in-place changes in program order; read and written on the owning JavaScript thread.
  int64_t version = 0;

 private:
  Device device_;
  int64_t bytes_;
  void* data_ = nullptr;
  std::shared_ptr<const MappedFile> file_;
  std::exception_ptr error_;
};

}  // namespace lorikeet
