# Dense LAPACK: the static serial OpenBLAS on Linux, Accelerate on macOS. Defines the interface target lorikeet_lapack.
add_library(lorikeet_lapack INTERFACE)
if(APPLE)
  target_link_libraries(lorikeet_lapack INTERFACE "-framework Accelerate")
  return()
endif()

find_library(LORIKEET_OPENBLAS NAMES libopenblas.a PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib64 /usr/lib /usr/local/lib /opt/OpenBLAS/lib
             PATH_SUFFIXES openblas-serial NO_DEFAULT_PATH DOC "Static OpenBLAS, built without threads")
if(NOT LORIKEET_OPENBLAS)
  message(FATAL_ERROR "The static OpenBLAS is missing. On Debian or Ubuntu:\n  apt-get install -y libopenblas-serial-dev\n"
                      "elsewhere give its place with -DLORIKEET_OPENBLAS=/path/to/libopenblas.a (in cmake-js: --CDLORIKEET_OPENBLAS=...)")
endif()
target_link_libraries(lorikeet_lapack INTERFACE ${LORIKEET_OPENBLAS})
# Its table of work memory is guarded in native/algo/openblas-memory.cc.
target_link_options(lorikeet_lapack INTERFACE -Wl,--wrap=blas_memory_alloc -Wl,--wrap=blas_memory_free)

# A multi-architecture OpenBLAS holds 25 MB of kernels for 20 kinds of CPU. Those listed in the options file are served by a near relation instead.
set(OPENBLAS_OPTIONS "${CMAKE_CURRENT_SOURCE_DIR}/native/link/openblas-x64.options")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES ${LORIKEET_OPENBLAS} Threads::Threads m)
  set(CMAKE_REQUIRED_LINK_OPTIONS "@${OPENBLAS_OPTIONS}")
  check_cxx_source_compiles("extern \"C\" void sgemv_(...); int main() { sgemv_(); }" LORIKEET_OPENBLAS_IS_DYNAMIC)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(LORIKEET_OPENBLAS_IS_DYNAMIC)
    target_link_options(lorikeet_lapack INTERFACE "@${OPENBLAS_OPTIONS}")
    set_property(TARGET lorikeet_lapack PROPERTY INTERFACE_LINK_DEPENDS ${OPENBLAS_OPTIONS})
  endif()
endif()
