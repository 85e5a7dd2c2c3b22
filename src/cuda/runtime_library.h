// A shared library opened when it is first needed, so that the command starts on machines that lack it.
#pragma once

#include <string>

namespace osprey {

class RuntimeLibrary {
 public:
  // Error(kDevice) naming the file and `what` it belongs to when the dynamic loader does not find it.
  RuntimeLibrary(std::string what, std::string file);

  void* handle() const { return handle_; }  // stays open until the process ends
  template <class Function>
  void bind(Function*& function, const char* name) const {
    function = reinterpret_cast<Function*>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  std::string what_, file_;
  void* handle_ = nullptr;
};

}  // namespace osprey
