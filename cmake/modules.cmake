# osprey_module(NAME [DEPS module...] [LIBS target...]): the library osprey_NAME of every source in src/NAME,
# and, from its *_test.cpp files, the test program test_NAME. New files are found by globbing; a folder
# without sources yet is an interface only.

add_library(osprey_flags INTERFACE)
target_compile_options(osprey_flags INTERFACE
                       $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wno-missing-field-initializers>
                       # GCC 12 raises false alarms on std::string operator+ (bug 105651) and on std::optional members.
                       $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict;-Wno-maybe-uninitialized>
                       # Exactness: a * b + c is two roundings unless a kernel says otherwise.
                       $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>
                       $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;--expt-relaxed-constexpr;-Xcompiler=-Wall,-ffp-contract=off>
                       # fmt 9 takes nvcc for a compiler without constexpr; nvcc warns of its long double (20208).
                       $<$<COMPILE_LANGUAGE:CUDA>:-DFMT_USE_CONSTEXPR=1;--diag-suppress=20208>)
if(OSPREY_WERROR)
  target_compile_options(osprey_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>
                         $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()
if(OSPREY_SANITIZE)
  target_compile_options(osprey_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${OSPREY_SANITIZE};
                         -fno-omit-frame-pointer;-fno-sanitize-recover=all>)
  target_link_options(osprey_flags INTERFACE -fsanitize=${OSPREY_SANITIZE})
endif()
if(OSPREY_FUZZ)
  target_compile_options(osprey_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
endif()

# CUDA: a GoogleTest pattern of tests that have the label cuda instead.
function(osprey_test NAME)
  cmake_parse_arguments(arg "" "CUDA" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${NAME} ${arg_SOURCES})
  target_link_libraries(${NAME} PRIVATE osprey_flags ${arg_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(${NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${NAME} PRIVATE OSPREY_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set(others "")
  if(arg_CUDA)
    set(others TEST_FILTER "-${arg_CUDA}")
    gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST TEST_FILTER "${arg_CUDA}" PROPERTIES LABELS cuda TIMEOUT 600)
  endif()
  gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST ${others} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 600)
endfunction()

# Generates <name>_generated.h from src/<MODULE>/<name>.fbs; osprey_module(MODULE) picks it up.
function(osprey_flatbuffer MODULE)
  file(GLOB schemas CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${MODULE}/*.fbs)
  set(headers "")
  foreach(schema ${schemas})
    get_filename_component(stem ${schema} NAME_WE)
    set(header ${PROJECT_BINARY_DIR}/generated/${stem}_generated.h)
    add_custom_command(OUTPUT ${header} DEPENDS ${schema}
                       COMMAND ${FLATC} --cpp --gen-object-api -o ${PROJECT_BINARY_DIR}/generated ${schema})
    list(APPEND headers ${header})
  endforeach()
  set(OSPREY_GENERATED_${MODULE} ${headers} PARENT_SCOPE)
endfunction()

function(osprey_module NAME)
  cmake_parse_arguments(arg "" "" "DEPS;LIBS;LABELS" ${ARGN})
  set(dir ${PROJECT_SOURCE_DIR}/src/${NAME})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cpp ${dir}/*.cu)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "/cuda/hopper/")  # osprey_cuda_hopper, in cmake/cuda.cmake
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  osprey_registry(${NAME} generated)
  list(APPEND sources ${generated} ${OSPREY_GENERATED_${NAME}})

  set(links "")
  foreach(dep ${arg_DEPS})
    list(APPEND links $<$<BOOL:${dep}>:osprey_${dep}>)  # of a dependency that is itself $<condition:name>
  endforeach()
  if(sources)
    add_library(osprey_${NAME} STATIC ${sources})
    target_link_libraries(osprey_${NAME} PRIVATE osprey_flags PUBLIC ${links} ${arg_LIBS})
    set(scope PUBLIC)
    set_property(GLOBAL APPEND PROPERTY OSPREY_MODULES osprey_${NAME})
  else()
    add_library(osprey_${NAME} INTERFACE)
    target_link_libraries(osprey_${NAME} INTERFACE ${links} ${arg_LIBS})
    set(scope INTERFACE)
  endif()
  target_include_directories(osprey_${NAME} ${scope} ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include
                             ${PROJECT_BINARY_DIR}/generated)
  if(OSPREY_TESTS AND tests)
    osprey_test(test_${NAME} SOURCES ${tests} LIBS osprey_${NAME} LABELS ${arg_LABELS})
    if("sanitized" IN_LIST arg_LABELS)
      add_dependencies(sanitized_tests test_${NAME})
    endif()
  endif()
endfunction()

# The tests of what reads files, for the sanitizer builds: `ctest -L sanitized`.
add_custom_target(sanitized_tests)

if(OSPREY_TESTS)
  include(GoogleTest)
endif()
