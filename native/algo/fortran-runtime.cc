#include <cstddef>
#include <cstring>

// The one function of the Fortran runtime that the LAPACK routines in a static OpenBLAS call (to put two option letters together for
// ilaenv). With it the addon needs no libgfortran, neither when it is built nor when it runs.

extern "C" void _gfortran_concat_string(size_t size, char* out, size_t size_a, const char* a, size_t size_b, const char* b) {
  size_t from_a = size_a < size ? size_a : size;
  std::memcpy(out, a, from_a);
  size_t from_b = size_b < size - from_a ? size_b : size - from_a;
  std::memcpy(out + from_a, b, from_b);
  std::memset(out + from_a + from_b, ' ', size - from_a - from_b);
}
