# libosprey: the modules as one shared library, with its public headers, find_package(osprey), pkg-config, and
# the command. oneDNN's library is installed beside it, since Debian's is too old.
if(NOT OSPREY_CPU)
  return()
endif()

get_property(modules GLOBAL PROPERTY OSPREY_MODULES)
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/libosprey.cpp CONTENT
     "// libosprey's code is in its modules; a shared library needs one source of its own.\n")
add_library(libosprey SHARED ${PROJECT_BINARY_DIR}/generated/libosprey.cpp)
set(archives "")
foreach(module ${modules})
  list(APPEND archives $<TARGET_FILE:${module}>)
endforeach()
target_link_libraries(libosprey PRIVATE -Wl,--whole-archive ${archives} -Wl,--no-whole-archive ${modules} osprey_flags)
target_include_directories(libosprey INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(libosprey INTERFACE cxx_std_20)
set_target_properties(libosprey PROPERTIES OUTPUT_NAME osprey VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR} EXPORT_NAME osprey INSTALL_RPATH $ORIGIN)
add_library(osprey::osprey ALIAS libosprey)
set_target_properties(osprey PROPERTIES INSTALL_RPATH $ORIGIN/../${CMAKE_INSTALL_LIBDIR})

install(TARGETS osprey RUNTIME)
install(TARGETS libosprey EXPORT ospreyTargets LIBRARY)
install(DIRECTORY include/osprey TYPE INCLUDE)
install(DIRECTORY assets/demo python/originals DESTINATION ${CMAKE_INSTALL_DATADIR}/osprey)
install(FILES ${OSPREY_DEPS}/onednn/lib/libdnnl.so.3.2 TYPE LIB RENAME libdnnl.so.3)

include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/osprey)
install(EXPORT ospreyTargets NAMESPACE osprey:: DESTINATION ${package})
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/ospreyConfig.cmake CONTENT
     "include(\${CMAKE_CURRENT_LIST_DIR}/ospreyTargets.cmake)\n" @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/ospreyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/ospreyConfig.cmake ${PROJECT_BINARY_DIR}/generated/ospreyConfigVersion.cmake
        DESTINATION ${package})

configure_file(cmake/osprey.pc.in ${PROJECT_BINARY_DIR}/generated/osprey.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/osprey.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
