# The CUDA executor is optional: built where nvcc, cuDNN 9, cuBLASLt and cudnn-frontend (scripts/setup.sh unpacks its
# headers into .deps) are found. The command starts on a machine without any of them: the CUDA runtime is linked
# statically, cuDNN and cuBLASLt are opened when they are first needed, and nothing links the driver's own library.
#
# CMAKE_CUDA_ARCHITECTURES: what GPUs the kernels are compiled for; the default runs on compute capability 8.0
# (Ampere) and newer, with Hopper's own machine code.

set(OSPREY_CUDA_FOUND OFF)
set(OSPREY_CUDA_MISSING "switched off (OSPREY_CUDA)")
if(NOT OSPREY_CUDA STREQUAL "OFF" AND NOT OSPREY_SANITIZE AND NOT OSPREY_FUZZ)
  include(CheckLanguage)
  check_language(CUDA)
  find_path(CUDNN_FRONTEND_INCLUDE cudnn_frontend.h PATHS ${OSPREY_DEPS}/cudnn_frontend/include)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80 90-real)
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc 12 and newer have it
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
      list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    get_filename_component(cuda_root ${CMAKE_CUDA_COMPILER} DIRECTORY)
    get_filename_component(cuda_root ${cuda_root} DIRECTORY)
    find_path(CUDNN_INCLUDE cudnn_graph.h HINTS ${cuda_root}/include ENV CUDNN_ROOT PATH_SUFFIXES include)
    find_path(CUBLASLT_INCLUDE cublasLt.h HINTS ${cuda_root}/include)
    find_library(CUDART_LIBRARY cudart_static HINTS ${cuda_root}/lib ${cuda_root}/lib64)
  endif()
  set(OSPREY_CUDA_MISSING "")
  foreach(pair "CMAKE_CUDA_COMPILER:nvcc (the CUDA 12 or 13 toolkit)" "CUDNN_INCLUDE:cuDNN 9's headers"
               "CUBLASLT_INCLUDE:cuBLASLt's headers" "CUDNN_FRONTEND_INCLUDE:cudnn-frontend (scripts/setup.sh)")
    string(REGEX REPLACE ":.*" "" variable ${pair})
    string(REGEX REPLACE "^[^:]*:" "" what ${pair})
    if(NOT ${variable})
      string(APPEND OSPREY_CUDA_MISSING " ${what};")
    endif()
  endforeach()
  if(OSPREY_CUDA_MISSING STREQUAL "")
    set(OSPREY_CUDA_FOUND ON)
    add_library(osprey_cuda_libraries INTERFACE)
    target_include_directories(osprey_cuda_libraries SYSTEM INTERFACE ${CUDNN_INCLUDE} ${CUDNN_FRONTEND_INCLUDE} ${cuda_root}/include)
    target_link_libraries(osprey_cuda_libraries INTERFACE ${CUDART_LIBRARY} dl rt pthread)
    target_compile_definitions(osprey_cuda_libraries INTERFACE OSPREY_HAS_CUDA=1)
  elseif(OSPREY_CUDA STREQUAL "ON")
    message(FATAL_ERROR "OSPREY_CUDA=ON, but there is no${OSPREY_CUDA_MISSING}")
  else()
    message(STATUS "CUDA executor: left out, there is no${OSPREY_CUDA_MISSING}")
  endif()
endif()

# Kernels of instructions that exist on Hopper alone (sm_90a), which osprey_cuda's own architectures leave out. They are
# part of that library, and run only where the device is one.
function(osprey_cuda_hopper)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cuda/hopper/*.cu)
  add_library(osprey_cuda_hopper OBJECT ${sources})
  set_target_properties(osprey_cuda_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)
  target_include_directories(osprey_cuda_hopper PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(osprey_cuda_hopper PRIVATE osprey_flags osprey_ops osprey_cuda_libraries)
  target_sources(osprey_cuda PRIVATE $<TARGET_OBJECTS:osprey_cuda_hopper>)
endfunction()
