// How `osprey VERB --help` tells of options.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace osprey {

// An option with the kind of its value, then what it is for, with its range and default behind that, in lines
// that a terminal shows whole.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace osprey
