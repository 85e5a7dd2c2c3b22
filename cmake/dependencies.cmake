# Everything from Debian but oneDNN, which scripts/setup.sh unpacks from its wheels into .deps (Debian 12's is
# too old). A missing package is named with the way to get it.

set(OSPREY_DEPS "${PROJECT_SOURCE_DIR}/.deps" CACHE PATH "Where scripts/setup.sh unpacked the wheels")

find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(Protobuf REQUIRED)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(simdjson REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(pangocairo REQUIRED IMPORTED_TARGET pangocairo)

# Debian ships these as a header and a library without a usable CMake package.
find_program(FLATC flatc REQUIRED)
find_library(FLATBUFFERS_LIBRARY flatbuffers REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
find_library(ONNX_PROTO_LIBRARY onnx_proto REQUIRED)
foreach(pair "flatbuffers:${FLATBUFFERS_LIBRARY}" "xxhash:${XXHASH_LIBRARY}" "onnx_proto:${ONNX_PROTO_LIBRARY}")
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 name)
  list(GET pair 1 file)
  add_library(${name} UNKNOWN IMPORTED)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${file})
endforeach()
# Its headers are configured for the namespace that the library was built with.
target_compile_definitions(onnx_proto INTERFACE ONNX_ML=1 ONNX_NAMESPACE=onnx)
if(NOT TARGET protobuf::libprotobuf)
  message(FATAL_ERROR "libprotobuf-dev is missing; run scripts/setup.sh")
endif()

if(OSPREY_CPU)
  find_package(OpenMP REQUIRED)
  find_package(dnnl 3.2 CONFIG PATHS ${OSPREY_DEPS}/onednn NO_DEFAULT_PATH)
  if(NOT dnnl_FOUND)
    message(FATAL_ERROR "oneDNN is not in ${OSPREY_DEPS}/onednn; run scripts/setup.sh")
  endif()
endif()

if(OSPREY_TESTS)
  find_package(GTest REQUIRED)
endif()
