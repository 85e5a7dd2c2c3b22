// The one exception type of the library.
//
// Every failure that a user's file, flag or machine can cause arrives as osprey::Error: a code that the
// command turns into its exit status, and a message that names the file, tensor or key and says what to do.
// Asserts are kept for our own bugs; user input never aborts the process.
#pragma once

#include <stdexcept>
#include <string>

#include "osprey/api.h"

namespace osprey {

enum class ErrorCode {
  kInternal = 1,  // a bug of ours, or a failed system call: exit status 1
  kUsage = 2,     // a call or command line that makes no sense: exit status 2
  kBadInput = 3,  // a file that is damaged, hostile or not supported: exit status 3
  kDevice = 4,    // a device that is missing, or out of memory: exit status 4
};

class OSPREY_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace osprey
