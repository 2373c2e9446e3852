# Fails where the library refers to the heap, to exceptions, or to a stream.
execute_process(COMMAND ${NM} --undefined-only --demangle ${LIBRARY} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
if(symbols MATCHES "operator (new|delete)|U (malloc|calloc|realloc|free|__cxa_throw|__cxa_allocate_exception)[\n@]|std::basic_ostream|std::__throw")
  message(FATAL_ERROR "The core refers to ${CMAKE_MATCH_0}")
endif()
