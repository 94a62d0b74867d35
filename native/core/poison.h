#pragma once

// Under AddressSanitizer exactly the bytes asked for can be touched, and none of memory that was given back; what is unmapped must be
// touchable again.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define LORIKEET_ALLOW(memory, bytes) __asan_unpoison_memory_region(memory, static_cast<size_t>(bytes))
#define LORIKEET_FORBID(memory, bytes) __asan_poison_memory_region(memory, static_cast<size_t>(bytes))
#else
#define LORIKEET_ALLOW(memory, bytes) static_cast<void>(0)
#define LORIKEET_FORBID(memory, bytes) static_cast<void>(0)
#endif
