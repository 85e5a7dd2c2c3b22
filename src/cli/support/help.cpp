#include "cli/support/help.h"

#include <sstream>
#include <vector>

namespace osprey {
namespace {

constexpr std::size_t kLineWidth = 100;

std::vector<std::string> wrapped(const std::string& text, std::size_t width) {
  std::vector<std::string> lines;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (lines.empty() || lines.back().size() + 1 + word.size() > width)
      lines.push_back(word);
    else
      lines.back() += " " + word;
  }
  return lines;
}

// "1 to 64" of CLI11's "INT:INT in [1 - 64]"; empty where a value has no range.
std::string range_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto begin = type.find(" in ["), dash = type.find(" - ", begin), end = type.find(']', begin);
  if (begin == std::string::npos || dash == std::string::npos || end == std::string::npos) return "";
  const auto first = begin + 5;
  return type.substr(first, dash - first) + " to " + type.substr(dash + 3, end - dash - 3);
}

}  // namespace

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string out = "  " + make_option_name(option, is_positional) + make_option_opts(option);
  const std::size_t column = get_column_width();
  const std::string indent(column, ' ');
  out += out.size() < column ? std::string(column - out.size(), ' ') : "\n" + indent;
  const auto lines = wrapped(make_option_desc(option), kLineWidth - column);
  for (std::size_t i = 0; i < lines.size(); ++i) out += (i == 0 ? "" : "\n" + indent) + lines[i];
  return out + "\n";
}

// A positional's kind is told by its name, and by the line of usage how many there are.
std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_positional() || option->get_type_size() == 0) return "";
  const std::string type = option->get_type_name();
  const bool several = option->get_expected_max() == CLI::detail::expected_max_vector_size;
  return " " + type.substr(0, type.find(':')) + (several ? "..." : "");
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::string out = option->get_description();
  const auto add = [&](const std::string& what) {
    if (!what.empty()) out += "; " + what;
  };
  add(range_of(*option));
  if (!option->get_default_str().empty()) add("default: " + option->get_default_str());
  if (option->get_required() && !option->get_positional()) add("required");
  return out;
}

}  // namespace osprey
