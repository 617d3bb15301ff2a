# Decides whether the CUDA backend is built (LATENTD_WITH_CUDA), and how its sources are compiled.
#
# LATENTD_CUDA = AUTO: when nvcc is found; ON: nvcc is needed; OFF: never.

# 80 serves 8.6 too. 90a: Hopper's own kernels; the others take the portable ones (kernel_policy.h).
set(LATENTD_CUDA_ARCHITECTURES "80;89;90a" CACHE STRING
    "GPU architectures that the kernels are compiled for, separated by ;")

option(LATENTD_CUDNN "bench_prefill_attention measures cuDNN beside our own kernel" OFF)

set(LATENTD_WITH_CUDA OFF)
if(NOT LATENTD_CUDA STREQUAL "OFF")
  find_program(LATENTD_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  if(LATENTD_NVCC)
    set(LATENTD_WITH_CUDA ON)
  elseif(LATENTD_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LATENTD_CUDA=ON needs nvcc; looked on PATH and in /usr/local/cuda")
  endif()
endif()

if(LATENTD_WITH_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${LATENTD_NVCC})
  endif()
  if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # options of our own: CMake 3.25 does not know 90a
  enable_language(CUDA)
  # Nor does it know what C++20 is called for nvcc 12 and later.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  # CMake 3.25 marks this target as deprecated without looking whether it is there: CUDA 13 has none.
  if(NOT TARGET CUDA::nvToolsExt)
    add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
  endif()
  find_package(CUDAToolkit REQUIRED)

  add_library(latentd_cuda_options INTERFACE)
  target_compile_options(latentd_cuda_options INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -lineinfo
    -Xcompiler=-Wall,-Wextra,-Wshadow>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LATENTD_WERROR}>>:-Werror=all-warnings>)
  option(LATENTD_RACECHECK "Kernels for compute-sanitizer's racecheck (kernels/hopper.cuh)" OFF)
  if(LATENTD_RACECHECK)
    target_compile_definitions(latentd_cuda_options INTERFACE LATENTD_RACECHECK)
  endif()
  foreach(architecture IN LISTS LATENTD_CUDA_ARCHITECTURES)
    target_compile_options(latentd_cuda_options INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode arch=compute_${architecture},code=sm_${architecture}>")
  endforeach()
endif()
