#include "core/mapped-file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

#include "core/error.h"

namespace lorikeet {
namespace {

/// Time of the last change, in nanoseconds.
int64_t time_of(const struct stat& status) {
#if defined(__APPLE__)
  const timespec& changed = status.st_mtimespec;
#else
  const timespec& changed = status.st_mtim;
#endif
  return changed.tv_sec * 1'000'000'000 + changed.tv_nsec;
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, int64_t expected_bytes) {
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(file >= 0, ErrorCode::io, path, ": cannot be opened; ", std::strerror(errno));
  struct Closer {
    int file;
    ~Closer() {
      if (file >= 0) ::close(file);
    }
  } closer{file};
  struct stat status;
  check(fstat(file, &status) == 0, ErrorCode::io, path, ": cannot be read; ", std::strerror(errno));
  check(S_ISREG(status.st_mode), ErrorCode::io, path, ": is not a regular file");
  int64_t size = status.st_size;
  check(size >= expected_bytes, ErrorCode::io, path, ": the file is cut off; got ", size, " bytes, expected at least ", expected_bytes);
  void* memory = nullptr;
  if (size > 0) {
    memory = mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, file, 0);
    check(memory != MAP_FAILED, ErrorCode::io, path, ": cannot be mapped; ", std::strerror(errno));
  }
  closer.file = -1;
  return std::shared_ptr<MappedFile>(new MappedFile(path, file, size, time_of(status), static_cast<const uint8_t*>(memory)));
}

std::shared_ptr<MappedFile> MappedFile::shared(const std::string& path, int64_t expected_bytes) {
  using Identity = std::tuple<dev_t, ino_t, off_t, int64_t>;
  // Never destroyed: worker threads may still read files while the process exits.
  static std::mutex& mutex = *new std::mutex;
  static auto& open_files = *new std::map<Identity, std::weak_ptr<MappedFile>>;
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return open(path, expected_bytes);
  Identity identity{status.st_dev, status.st_ino, status.st_size, time_of(status)};
  std::lock_guard lock(mutex);
  std::erase_if(open_files, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<MappedFile>& known = open_files[identity];
  std::shared_ptr<MappedFile> file = known.lock();
  if (file == nullptr) {
    file = open(path, expected_bytes);
    known = file;
  }
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), static_cast<size_t>(size_));
  ::close(descriptor_);
}

void MappedFile::check_unchanged() const {
  struct stat status;
  check(fstat(descriptor_, &status) == 0, ErrorCode::io, path_, ": cannot be read; ", std::strerror(errno));
  const bool same_size = status.st_size == size_;
  check(same_size && time_of(status) == changed_, ErrorCode::io, path_, ": the file was changed while its tensors are in use; got ",
        same_size ? "a later time of change" : concat(status.st_size, " bytes"), ", expected the file of ", size_,
        " bytes that was opened; load the model again");
}

void MappedFile::will_need(int64_t offset, int64_t bytes) const { advise(offset, bytes, MADV_WILLNEED); }

void MappedFile::done_with(int64_t offset, int64_t bytes) const { advise(offset, bytes, MADV_DONTNEED); }

void MappedFile::advise(int64_t offset, int64_t bytes, int advice) const {
  int64_t page = sysconf(_SC_PAGESIZE);
  bool inward = advice == MADV_DONTNEED;  // neighbours that share a page may still be in use
  int64_t begin = inward ? (offset + page - 1) / page * page : offset / page * page;
  int64_t end = std::min(offset + bytes, size_);
  if (inward && end < size_) end = end / page * page;
  if (data_ == nullptr || begin >= end) return;
  // A hint only: failure changes nothing.
  madvise(const_cast<uint8_t*>(data_) + begin, static_cast<size_t>(end - begin), advice);
}

}  // namespace lorikeet
