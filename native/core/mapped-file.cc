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

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path, int64_t expected_bytes) {
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(file >= 0, ErrorCode::io, path, ": cannot be opened; ", std::strerror(errno));
  struct Closer {
    int file;
    ~Closer() { ::close(file); }
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
  return std::shared_ptr<MappedFile>(new MappedFile(path, static_cast<const uint8_t*>(memory), size));
}

std::shared_ptr<MappedFile> MappedFile::shared(const std::string& path, int64_t expected_bytes) {
  using Identity = std::tuple<dev_t, ino_t, off_t, int64_t, int64_t>;
  // Never destroyed: worker threads may still read files while the process exits.
  static std::mutex& mutex = *new std::mutex;
  static auto& open_files = *new std::map<Identity, std::weak_ptr<MappedFile>>;
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return open(path, expected_bytes);
#if defined(__APPLE__)
  const timespec& changed = status.st_mtimespec;
#else
  const timespec& changed = status.st_mtim;
#endif
  Identity identity{status.st_dev, status.st_ino, status.st_size, changed.tv_sec, changed.tv_nsec};
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
