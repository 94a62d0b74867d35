#include <mutex>

// OpenBLAS built without threads hands out its work memory from one unguarded table. The linker sends its calls through here (--wrap in
// cmake/openblas.cmake), so that matrices can be decomposed on several threads at once; the rest of it holds no state that changes.
#if !defined(__APPLE__)

extern "C" {
void* __real_blas_memory_alloc(int position);
void __real_blas_memory_free(void* memory);

static std::mutex table_mutex;

void* __wrap_blas_memory_alloc(int position) {
  std::lock_guard lock(table_mutex);
  return __real_blas_memory_alloc(position);
}

void __wrap_blas_memory_free(void* memory) {
  std::lock_guard lock(table_mutex);
  __real_blas_memory_free(memory);
}
}

#endif
