# The CUDA backend: a shared object of its own, loaded by the addon where a driver is. The CUDA runtime is linked statically and the driver not at all,
# so the object loads anywhere. Architectures: machine code for those listed as -real, PTX of the last one for newer GPUs.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
enable_language(CUDA)
# The headers shared with the addon are C++20, which nvcc knows since 12.0 but CMake 3.25 does not: it is told the flag here.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)

file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS native/cuda/*.cu)
add_library(lorikeet_cuda SHARED ${CUDA_SOURCES})
set_target_properties(lorikeet_cuda PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/build/Release)
target_include_directories(lorikeet_cuda PRIVATE native)
# Contraction is off as in the CPU kernels: fused multiply-adds are written as fma().
target_compile_options(lorikeet_cuda PRIVATE --fmad=false --expt-relaxed-constexpr -lineinfo -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter)
target_link_options(lorikeet_cuda PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -Wl,-z,nodelete)
