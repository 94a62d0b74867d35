#pragma once

#include <cstddef>
#include <mutex>
#include <new>

namespace lorikeet {

/// Blocks of one size for the small objects that one thread makes by the hundred in a step and another drops: each thread keeps those that
/// it drops for itself, and hands what is too many to the others by whole batches. None goes back to the system; there are never more than
/// were in use at once, and a batch or two for each thread.
template <size_t Size>
class RecycledBlocks {
 public:
  static void* take() {
    Batch& own = own_until_the_end();
    if (own.first == nullptr && !closed_) own = from_others();
    if (own.first == nullptr) return ::operator new(Size);
    return own.pop();
  }

  static void give(void* memory) {
    Batch& own = own_until_the_end();
    own.push(memory);
    if (own.count < kBatch && !closed_) return;
    to_others(own);
    own = {};
  }

 private:
  static constexpr size_t kBatch = 64;

  struct Block {
    Block* next;        // in its batch
    Block* next_batch;  // of the first block of a batch
    size_t count;       // blocks of the batch
  };
  static_assert(Size >= sizeof(Block));

  struct Batch {
    Block* first = nullptr;
    size_t count = 0;

    void push(void* memory) {
      first = new (memory) Block{first, nullptr, 0};
      ++count;
    }
    void* pop() {
      Block* block = first;
      first = block->next;
      --count;
      return block;
    }
  };

  /// Hands over what a thread has when it ends.
  struct Ending {
    ~Ending() {
      closed_ = true;
      if (own_.first != nullptr) to_others(own_);
      own_ = {};
    }
  };

  static Batch& own_until_the_end() {
    static thread_local Ending ending;
    return own_;
  }

  static Batch from_others() {
    std::lock_guard lock(mutex_);
    if (batches_ == nullptr) return {};
    Block* first = batches_;
    batches_ = first->next_batch;
    return {first, first->count};
  }

  static void to_others(const Batch& batch) {
    std::lock_guard lock(mutex_);
    batch.first->next_batch = batches_;
    batch.first->count = batch.count;
    batches_ = batch.first;
  }

  static inline thread_local constinit Batch own_{};
  static inline thread_local constinit bool closed_ = false;
  static inline constinit std::mutex mutex_{};
  static inline constinit Block* batches_ = nullptr;
};

/// For std::allocate_shared: an object and its count in one block of RecycledBlocks.
template <class T>
struct Recycled {
  using value_type = T;
  Recycled() = default;
  template <class Other>
  Recycled(const Recycled<Other>&) {}
  T* allocate(size_t) { return static_cast<T*>(RecycledBlocks<sizeof(T)>::take()); }
  void deallocate(T* memory, size_t) { RecycledBlocks<sizeof(T)>::give(memory); }
  template <class Other>
  bool operator==(const Recycled<Other>&) const {
    return true;
  }
};

}  // namespace lorikeet
