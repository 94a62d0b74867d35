#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace lorikeet {

/// A file mapped read-only into memory; unmapped when the last shared_ptr goes. Pages are read when touched and shared with other
/// processes. The file must not be cut while it is mapped: a reader of a page that is gone is killed by the system (replacing the file by
/// rename is safe).
class MappedFile {
 public:
  /// Maps the whole file. Throws Error (io) when it cannot be opened, is no regular file, or holds fewer than `expected_bytes`.
  static std::shared_ptr<MappedFile> open(const std::string& path, int64_t expected_bytes = 0);
  /// The same, or the mapping of this very file (device, inode, size and time of change) that somebody still holds. Thread-safe.
  static std::shared_ptr<MappedFile> shared(const std::string& path, int64_t expected_bytes = 0);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// Asks the system to read a range ahead: it will be used soon, front to back.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Tells the system that a range will not be read again; its pages may go.
  void done_with(int64_t offset, int64_t bytes) const;

 private:
  MappedFile(std::string path, const uint8_t* data, int64_t size) : path_(std::move(path)), data_(data), size_(size) {}
  void advise(int64_t offset, int64_t bytes, int advice) const;

  std::string path_;
  const uint8_t* data_;
  int64_t size_;
};

}  // namespace lorikeet
