#include "formats/onnx_ops.h"

#include <algorithm>
#include <array>

#include "formats/source.h"
#include "graph/op_table.h"

namespace osprey {
namespace {

// Flags of ours that say how to round, and that ONNX has no word for, travel in the node's doc_string. No op
// has two of them.
constexpr std::array<std::string_view, 2> kKeptFlags{"f32_out", "exact_factor"};

std::string kept_text(std::string_view flag) { return fmt::format("osprey: {}", flag); }

bool is_kept(std::string_view name) {
  return std::find(kKeptFlags.begin(), kKeptFlags.end(), name) != kKeptFlags.end();
}

using Ints = std::vector<std::int64_t>;

std::vector<OnnxSpelling> make_table() {
  const auto text = [](const char* t) { return AttributeValue(std::string(t)); };
  const auto number = [](std::int64_t n) { return AttributeValue(n); };
  const AttributeValue spatial(Ints{2, 3});
  return {
      {"activate", "Relu", {{"kind", text("relu")}}, {}, {}},
      {"activate", "Sigmoid", {{"kind", text("sigmoid")}}, {}, {}},
      {"add", "Add", {}, {}, {}},
      {"average_pool",
       "AveragePool",
       {{"padding", text("same")}},
       {{"kernel", "kernel_shape"}, {"stride", "strides"}, {"count_padding", "count_include_pad"}},
       {{"auto_pad", text("SAME_UPPER")}}},
      {"average_pool",
       "AveragePool",
       {},
       {{"kernel", "kernel_shape"},
        {"stride", "strides"},
        {"pads", "pads"},
        {"count_padding", "count_include_pad"}},
       {}},
      {"batch_norm", "BatchNormalization", {}, {{"epsilon", "epsilon"}}, {}},
      {"concat", "Concat", {}, {}, {{"axis", number(1)}}},
      {"conv",
       "Conv",
       {{"padding", text("same")}},
       {{"stride", "strides"}, {"dilation", "dilations"}, {"groups", "group"}},
       {{"auto_pad", text("SAME_UPPER")}}},
      {"conv",
       "Conv",
       {},
       {{"stride", "strides"}, {"dilation", "dilations"}, {"pads", "pads"}, {"groups", "group"}},
       {}},
      {"conv_transpose", "ConvTranspose", {}, {{"stride", "strides"}, {"pads", "pads"}}, {}},
      {"flatten", "Flatten", {}, {}, {{"axis", number(1)}}},
      {"global_average_pool", "ReduceMean", {}, {}, {{"axes", spatial}, {"keepdims", number(0)}}},
      {"linear", "Gemm", {}, {}, {{"transB", number(1)}}},
      {"max_pool",
       "MaxPool",
       {{"padding", text("same")}},
       {{"kernel", "kernel_shape"}, {"stride", "strides"}},
       {{"auto_pad", text("SAME_UPPER")}}},
      {"max_pool", "MaxPool", {}, {{"kernel", "kernel_shape"}, {"stride", "strides"}, {"pads", "pads"}}, {}},
      {"mean", "Mean", {}, {}, {}},
      {"softmax", "Softmax", {}, {}, {{"axis", number(-1)}}},
      {"upsample",
       "Resize",
       {{"mode", text("nearest")}},
       {},
       {{"mode", text("nearest")},
        {"coordinate_transformation_mode", text("asymmetric")},
        {"nearest_mode", text("floor")}},
       "scale"},
      {"upsample",
       "Resize",
       {{"mode", text("bilinear")}},
       {},
       {{"mode", text("linear")}, {"coordinate_transformation_mode", text("half_pixel")}},
       "scale"},
  };
}

const AttributeValue* find(const Attributes& attributes, std::string_view name) {
  for (const Attribute& a : attributes)
    if (a.name == name) return &a.value;
  return nullptr;
}

Attributes defaults_of(const OpInfo& info) { return info.attributes(info.make({}).get()); }

bool fits(const OnnxSpelling& row, const Node& node) {
  if (row.op != node.op.name()) return false;
  // Our convolution takes what is added to it as a fourth input.
  if (row.op == "conv" && node.inputs.size() > 3) return false;
  const Attributes defaults = defaults_of(node.op.info());
  const auto is_free = [&](const Attribute& a) {
    return is_kept(a.name) || a.name == row.scale ||
           std::any_of(row.renamed.begin(), row.renamed.end(),
                       [&](const auto& r) { return r.ours == a.name; });
  };
  const Attributes attributes = node.op.attributes();
  return std::all_of(attributes.begin(), attributes.end(), [&](const Attribute& a) {
    if (is_free(a)) return true;
    const AttributeValue* wanted = find(row.ours, a.name);
    return a.value == (wanted ? *wanted : *find(defaults, a.name));
  });
}

// `like` says whether a whole number is a flag.
AttributeValue value_of(const onnx::AttributeProto& a, const AttributeValue* like) {
  switch (a.type()) {
    case onnx::AttributeProto::FLOAT:
      return a.f();
    case onnx::AttributeProto::STRING:
      return a.s();
    case onnx::AttributeProto::INTS:
      return Ints(a.ints().begin(), a.ints().end());
    case onnx::AttributeProto::FLOATS:
      return std::vector<float>(a.floats().begin(), a.floats().end());
    case onnx::AttributeProto::INT:
      if (like && std::holds_alternative<bool>(*like)) return a.i() != 0;
      return std::int64_t{a.i()};
    default:
      bad_input("attribute '{}' is of a kind that is not read", printable(a.name()));
  }
}

bool reads(const OnnxSpelling& row, const onnx::NodeProto& node) {
  return row.onnx == node.op_type() &&
         std::all_of(row.fixed.begin(), row.fixed.end(), [&](const Attribute& f) {
           return std::any_of(node.attribute().begin(), node.attribute().end(), [&](const auto& a) {
             return a.name() == f.name && value_of(a, &f.value) == f.value;
           });
         });
}

ReadNode read_standard(const OnnxSpelling& row, const onnx::NodeProto& node,
                       const std::function<std::int64_t(const std::string&)>& scale_of) {
  const OpInfo& info = find_op(row.op);
  const Attributes defaults = defaults_of(info);
  Attributes ours = row.ours;
  for (const auto& a : node.attribute()) {
    if (find(row.fixed, a.name())) continue;
    const auto renamed = std::find_if(row.renamed.begin(), row.renamed.end(),
                                      [&](const auto& r) { return r.onnx == a.name(); });
    require(renamed != row.renamed.end(), "{} has an attribute '{}' that is not understood", row.onnx,
            printable(a.name()));
    ours.push_back({std::string(renamed->ours), value_of(a, find(defaults, renamed->ours))});
  }
  for (const std::string_view flag : kKeptFlags)
    if (node.doc_string() == kept_text(flag) && find(defaults, flag))
      ours.push_back({std::string(flag), true});
  if (!row.scale.empty()) {
    require(node.input_size() == 3 && node.input(1).empty(), "{} needs x and its scales", row.onnx);
    ours.push_back({std::string(row.scale), scale_of(node.input(2))});
  }
  return {Op(&info, info.make(ours)), !row.scale.empty()};
}

ReadNode read_ours(const onnx::NodeProto& node) {
  const auto& table = op_table();
  const auto info =
      std::find_if(table.begin(), table.end(), [&](const OpInfo* i) { return i->name == node.op_type(); });
  require(info != table.end(), "no op '{}' is known (written by a newer version?)",
          printable(node.op_type()));
  const Attributes defaults = defaults_of(**info);
  Attributes attributes;
  for (const auto& a : node.attribute())
    attributes.push_back({a.name(), value_of(a, find(defaults, a.name()))});
  return {Op(*info, (*info)->make(attributes))};
}

struct AttributeSetter {
  onnx::AttributeProto& to;

  void operator()(bool v) const { whole(v ? 1 : 0); }
  void operator()(std::int64_t v) const { whole(v); }
  void operator()(float v) const {
    to.set_type(onnx::AttributeProto::FLOAT);
    to.set_f(v);
  }
  void operator()(const std::string& v) const {
    to.set_type(onnx::AttributeProto::STRING);
    to.set_s(v);
  }
  void operator()(const Ints& v) const {
    to.set_type(onnx::AttributeProto::INTS);
    to.mutable_ints()->Add(v.begin(), v.end());
  }
  void operator()(const std::vector<float>& v) const {
    to.set_type(onnx::AttributeProto::FLOATS);
    to.mutable_floats()->Add(v.begin(), v.end());
  }

 private:
  void whole(std::int64_t v) const {
    to.set_type(onnx::AttributeProto::INT);
    to.set_i(v);
  }
};

}  // namespace

const std::vector<OnnxSpelling>& onnx_spellings() {
  static const std::vector<OnnxSpelling> table = make_table();
  return table;
}

const OnnxSpelling* find_spelling(const Node& node) {
  for (const OnnxSpelling& row : onnx_spellings())
    if (fits(row, node)) return &row;
  return nullptr;
}

void set_attribute(onnx::NodeProto& node, std::string_view name, const AttributeValue& value) {
  onnx::AttributeProto& to = *node.add_attribute();
  to.set_name(std::string(name));
  std::visit(AttributeSetter{to}, value);
}

SpeltNode spell(const Node& node) {
  SpeltNode out;
  out.proto.set_name(node.name);
  const Attributes attributes = node.op.attributes();
  const OnnxSpelling* row = find_spelling(node);
  if (!row) {
    out.proto.set_op_type(std::string(node.op.name()));
    out.proto.set_domain(kOspreyDomain);
    for (const Attribute& a : attributes) set_attribute(out.proto, a.name, a.value);
    return out;
  }
  out.proto.set_op_type(std::string(row->onnx));
  for (const auto& r : row->renamed) set_attribute(out.proto, r.onnx, *find(attributes, r.ours));
  for (const Attribute& a : row->fixed) set_attribute(out.proto, a.name, a.value);
  for (const std::string_view flag : kKeptFlags)
    if (const AttributeValue* kept = find(attributes, flag); kept && std::get<bool>(*kept))
      out.proto.set_doc_string(kept_text(flag));
  if (!row->scale.empty()) out.scale = std::get<std::int64_t>(*find(attributes, row->scale));
  return out;
}

ReadNode read_node(const onnx::NodeProto& node,
                   const std::function<std::int64_t(const std::string&)>& scale_of) {
  if (node.domain() == kOspreyDomain) return read_ours(node);
  require(node.domain().empty() || node.domain() == "ai.onnx", "the domain '{}' is not known",
          printable(node.domain()));
  for (const OnnxSpelling& row : onnx_spellings())
    if (reads(row, node)) return read_standard(row, node, scale_of);
  bad_input("ONNX's op '{}' is not understood with these attributes", printable(node.op_type()));
}

}  // namespace osprey
