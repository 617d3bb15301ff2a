# How every folder declares its library, programs and tests.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# What our own targets are compiled with; never exported to what links them.
add_library(latentd_compile_options INTERFACE)
target_compile_options(latentd_compile_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wconversion -Wshadow>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LATENTD_WERROR}>>:-Werror>)

# latentd_library(NAME SOURCES a.cc ... [PUBLIC target ...] [PRIVATE target ...])
# One static library latentd_NAME with the alias latentd::NAME.
function(latentd_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(latentd_${name} STATIC ${ARG_SOURCES})
  add_library(latentd::${name} ALIAS latentd_${name})
  target_include_directories(latentd_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(latentd_${name} PUBLIC ${ARG_PUBLIC}
                        PRIVATE latentd_compile_options ${ARG_PRIVATE})
endfunction()

# latentd_embed(TARGET NAME file ...): makes NAME.inc, which defines, for each text file `a/b.c`, the
# std::string_view constant `b_c` with its contents; private to TARGET.
function(latentd_embed target name)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/embedded/${name}.inc)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE inputs)
  set(script ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} "-DINPUTS=${inputs}" -DOUTPUT=${output} -P ${script}
    DEPENDS ${inputs} ${script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/embedded)
endfunction()

# latentd_program(NAME SOURCES a.cc ... [PRIVATE target ...]): build/<preset>/NAME.
function(latentd_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PRIVATE" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE latentd_compile_options ${ARG_PRIVATE})
endfunction()

# latentd_test(NAME SOURCES a_test.cc ... [PRIVATE target ...] [LABELS label ...] [TIMEOUT seconds]
#              [SERIAL])
# A GoogleTest program; each of its cases is a ctest test. Default label: unit. SERIAL: nothing else
# may run meanwhile.
function(latentd_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SOURCES;PRIVATE;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE latentd_compile_options ${ARG_PRIVATE} GTest::gmock_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} RUN_SERIAL ${ARG_SERIAL})
endfunction()
