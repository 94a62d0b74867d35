#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace lorikeet {

/// A file mapped read-only into memory; unmapped when the last shared_ptr goes. Pages are read when touched and shared with other
/// processes. The file must not be changed while it is mapped: readers see what is written, and one of a page that was cut off is killed by
/// the system (replacing the file by rename is safe). check_unchanged tells of it before more is read.
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

  /// Throws Error (io) when the mapped file was cut, or written to, since it was opened.
  void check_unchanged() const;

  /// Asks the system to read a range ahead: it will be used soon, front to back.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Tells the system that a range will not be read again; its pages may go.
  void done_with(int64_t offset, int64_t bytes) const;

 private:
  MappedFile(std::string path, int descriptor, int64_t size, int64_t changed, const uint8_t* data)
      : path_(std::move(path)), descriptor_(descriptor), size_(size), changed_(changed), data_(data) {}
  void advise(int64_t offset, int64_t bytes, int advice) const;

  std::string path_;
  int descriptor_;
  int64_t size_;
  int64_t changed_;  // time of the last change, in nanoseconds
  const uint8_t* data_;
};

}  // namespace lorikeet
