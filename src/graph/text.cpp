// The text form of graphs. The grammar, one statement a line, '#' starting a comment:
//   graph NAME
//   input NAME: TYPE
//   weight NAME: TYPE [= VALUE...]
//   NAME[, NAME]... = OP(NAME|_, ...) [{ATTRIBUTE=VALUE, ...}] [@LAYER] [: TYPE[, TYPE]...]
//   output NAME
#include <charconv>
#include <cmath>

#include "graph/graph.h"
#include "graph/op_table.h"

namespace osprey {
namespace {

constexpr std::int64_t kPrintedWeight = 16;

std::string weight_values(const Weight& weight, const TensorType& type) {
  if (element_count(constant_shape(type)) > kPrintedWeight || type.dtype != DType::kF32 || !weight.load)
    return "";
  const Tensor data = weight.load().to_f32();
  std::string out = " =";
  for (const float v : data.values<float>()) out += " " + to_string(AttributeValue(v));
  return out;
}

Attributes changed_attributes(const Op& op) {
  const Attributes all = op.attributes();
  const auto& info = op.info();
  const Attributes defaults = info.attributes(info.make({}).get());
  Attributes out;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (!(all[i] == defaults[i])) out.push_back(all[i]);
  return out;
}

std::string node_text(const Graph& graph, const Node& node) {
  std::string out;
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    out += (i ? ", " : "") + graph.value(node.outputs[i]).name;
  out += fmt::format(" = {}(", node.op.name());
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    out += (i ? ", " : "") + (node.inputs[i] == kNoValue ? "_" : graph.value(node.inputs[i]).name);
  out += ")";
  const Attributes changed = changed_attributes(node.op);
  for (std::size_t i = 0; i < changed.size(); ++i)
    out += fmt::format("{}{}={}", i ? ", " : " {", changed[i].name, to_string(changed[i].value));
  if (!changed.empty()) out += "}";
  if (node.name != graph.value(node.outputs[0]).name) out += " @" + node.name;
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    out += (i ? ", " : " : ") + to_string(graph.value(node.outputs[i]).type);
  return out;
}

// One line of the text form, read token by token.
class LineReader {
 public:
  LineReader(std::string_view line, int number) : rest_(line), number_(number) { skip(); }

  bool done() const { return rest_.empty(); }
  bool accept(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    skip();
    return true;
  }
  void expect(std::string_view token) {
    require(accept(token), "line {}: expected '{}' before '{}'", number_, token, rest_);
  }
  // Up to one of `stops` outside brackets.
  std::string until(std::string_view stops) {
    int depth = 0;
    std::size_t n = 0;
    for (; n < rest_.size(); ++n) {
      const char c = rest_[n];
      if (depth == 0 && stops.find(c) != std::string_view::npos) break;
      if (c == '[' || c == '(') ++depth;
      if (c == ']' || c == ')') --depth;
    }
    std::string out(rest_.substr(0, n));
    rest_.remove_prefix(n);
    while (!out.empty() && out.back() == ' ') out.pop_back();
    skip();
    return out;
  }
  int number() const { return number_; }

 private:
  void skip() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) rest_.remove_prefix(1);
  }
  std::string_view rest_;
  int number_;
};

bool is_integer(std::string_view text) {
  return !text.empty() && text.find_first_not_of("-0123456789") == std::string_view::npos;
}

template <class T>
T parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), "'{}' is no number", text);
  return value;
}

AttributeValue parse_value(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  if (text.size() >= 2 && text.front() == '\'' && text.back() == '\'')
    return std::string(text.substr(1, text.size() - 2));
  if (!text.starts_with('[')) {
    if (is_integer(text)) return parse_number<std::int64_t>(text);
    return parse_number<float>(text);
  }
  require(text.ends_with(']'), "'{}' is no list", text);
  LineReader items(text.substr(1, text.size() - 2), 0);
  std::vector<std::int64_t> ints;
  std::vector<float> floats;
  while (!items.done()) {
    const std::string item = items.until(",");
    if (is_integer(item))
      ints.push_back(parse_number<std::int64_t>(item));
    else
      floats.push_back(parse_number<float>(item));
    items.accept(",");
  }
  require(ints.empty() || floats.empty(), "'{}' mixes whole numbers and floats", text);
  if (!floats.empty()) return floats;
  return ints;
}

class GraphParser {
 public:
  Graph parse(std::string_view text) {
    int number = 0;
    while (!text.empty()) {
      const auto end = text.find('\n');
      std::string_view line = text.substr(0, end);
      text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
      line = line.substr(0, line.find('#'));
      LineReader in(line, ++number);
      if (!in.done()) in_context(fmt::format("graph text, line {}", number), [&] { statement(in, line); });
    }
    return std::move(graph_);
  }

 private:
  // A value may be named like a keyword: "input = normalize_image(...)".
  void statement(LineReader& in, std::string_view line) {
    if (line.find(" = ") < line.find(':')) {
      node(in);
    } else if (in.accept("graph ")) {
      graph_ = Graph(in.until(" "));
    } else if (in.accept("input ")) {
      std::string name = in.until(":");
      in.expect(":");
      graph_.add_input(std::move(name), parse_type(in.until("")));
    } else if (in.accept("weight ")) {
      weight(in);
    } else if (in.accept("output ")) {
      graph_.add_output(value(in.until(" ")));
    } else {
      node(in);
    }
  }

  ValueId value(const std::string& name) const {
    const ValueId id = graph_.find(name);
    require(id != kNoValue, "no value '{}' so far", name);
    return id;
  }

  void weight(LineReader& in) {
    std::string name = in.until(":");
    in.expect(":");
    const TensorType type = parse_type(in.until("="));
    if (!in.accept("=")) {
      graph_.add_weight(std::move(name), type, {});
      return;
    }
    std::vector<float> values;
    while (!in.done()) values.push_back(parse_number<float>(in.until(" ")));
    const Shape shape = constant_shape(type);
    require(element_count(shape) == static_cast<std::int64_t>(values.size()), "weight {}: {} values for {}",
            name, values.size(), to_string(type));
    graph_.add_weight(std::move(name), Tensor::from<float>(values, shape));
  }

  void node(LineReader& in) {
    std::vector<std::string> outputs;
    do outputs.push_back(in.until(",="));
    while (in.accept(","));
    in.expect("=");
    const OpInfo& info = find_op(in.until("("));
    in.expect("(");
    std::vector<ValueId> inputs;
    while (!in.accept(")")) {
      const std::string name = in.until(",)");
      inputs.push_back(name == "_" ? kNoValue : value(name));
      in.accept(",");
    }
    Attributes attributes;
    if (in.accept("{")) {
      while (!in.accept("}")) {
        std::string name = in.until("=");
        in.expect("=");
        attributes.push_back({std::move(name), parse_value(in.until(",}"))});
        in.accept(",");
      }
    }
    const std::string layer = in.accept("@") ? in.until(" :") : outputs[0];
    const Node& made = graph_.add_node(Op(&info, info.make(attributes)), std::move(inputs), layer);
    require(made.outputs.size() == outputs.size(), "{} gives {} values, not {}", info.name,
            made.outputs.size(), outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) graph_.rename(made.outputs[i], outputs[i]);
    if (!in.accept(":")) return;
    for (const ValueId id : made.outputs) {
      const TensorType written = parse_type(in.until(","));
      require(graph_.value(id).type == written, "{} is {}, not {}", graph_.value(id).name,
              to_string(graph_.value(id).type), to_string(written));
      in.accept(",");
    }
  }

  Graph graph_;
};

}  // namespace

std::string to_text(const Graph& graph) {
  std::string out = fmt::format("graph {}\n", graph.name());
  for (const ValueId id : graph.inputs())
    out += fmt::format("input {}: {}\n", graph.value(id).name, to_string(graph.value(id).type));
  for (const Weight& w : graph.weights()) {
    const Value& v = graph.value(w.value);
    out += fmt::format("weight {}: {}{}\n", v.name, to_string(v.type), weight_values(w, v.type));
  }
  for (const Node& node : graph.nodes()) out += node_text(graph, node) + "\n";
  for (const ValueId id : graph.outputs()) out += fmt::format("output {}\n", graph.value(id).name);
  return out;
}

Graph parse_graph(std::string_view text) { return GraphParser().parse(text); }

}  // namespace osprey
