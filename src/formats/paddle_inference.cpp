#include "formats/paddle_inference.h"

#include <algorithm>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "formats/layout.h"
#include "formats/onnx_wire.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Type = WireField::Type;

constexpr std::size_t kMaxProgram = std::size_t{16} << 20;
constexpr std::size_t kMaxParameters = 200'000;

// What a program says of its parameters.
struct Program {
  std::set<std::string> parameters;
  std::vector<std::vector<std::string>> operations;  // names that each one takes, parameters or not
};

// "w_0" of "conv2d_0.w_0_deepcopy_58": the role of a parameter in its layer; statistics follow weights.
std::pair<char, char> role_of(const std::string& name) {
  const auto dot = name.rfind('.');
  if (dot == std::string::npos || dot + 3 >= name.size()) return {'~', '~'};
  return {name[dot + 3], name[dot + 1] == 'w' ? 'a' : name[dot + 1]};
}

// ---------------------------------------------------------------- PIR

const Json* member(const Json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() ? &*it : nullptr;
}

const Json& item(const Json& from, const char* key, const char* what) {
  const Json* found = member(from, key);
  require(found != nullptr, "a program without {}", what);
  return *found;
}

const Json& first(const Json& list, const char* what) {
  require(list.is_array() && !list.empty(), "a program without {}", what);
  return list[0];
}

std::int64_t value_id(const Json& value) {
  const Json& id = item(value, "%", "numbers of values");
  require(id.is_number_integer(), "a value whose number is none");
  return id.get<std::int64_t>();
}

Program read_pir(Bytes bytes) {
  const std::string_view text = as_text(bytes);
  const Json root = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  require(!root.is_discarded(), "is no JSON");
  const Json& region = first(item(item(root, "program", "a program"), "regions", "regions"), "regions");
  const Json& ops = item(first(item(region, "blocks", "blocks"), "blocks"), "ops", "operations");
  require(ops.is_array(), "a program without operations");
  Program out;
  std::map<std::int64_t, std::string> names;
  for (const Json& op : ops) {
    const Json* kind = member(op, "#");
    if (kind && *kind == "p") {
      const Json& attributes = item(op, "A", "names of parameters");
      require(attributes.is_array() && attributes.size() >= 4 && attributes[3].is_string(),
              "a parameter without a name");
      const auto name = attributes[3].get<std::string>();
      require(out.parameters.insert(name).second, "the parameter {} is there twice", printable(name));
      names[value_id(item(op, "O", "parameters"))] = name;
    } else if (const Json* inputs = member(op, "I"); inputs && inputs->is_array()) {
      std::vector<std::string>& taken = out.operations.emplace_back();
      for (const Json& input : *inputs)
        if (const auto it = names.find(value_id(input)); it != names.end()) taken.push_back(it->second);
    }
  }
  return out;
}

// ---------------------------------------------------------------- ProgramDesc (framework.proto)

std::string text_of(const WireField& field) { return std::string(as_text(field.payload)); }

// Calls `take` with every length-delimited field of that number.
template <class Take>
void each(Bytes message, std::uint32_t number, Take take) {
  WireReader in(message, "program");
  while (const auto field = in.next())
    if (field->number == number && field->type == Type::kBytes) take(*field);
}

// VarDesc: name 1, type 2, persistable 3.
void read_variable(Bytes message, Program& out) {
  WireReader in(message, "program");
  std::string name;
  bool persistable = false;
  while (const auto field = in.next()) {
    if (field->number == 1 && field->type == Type::kBytes) name = text_of(*field);
    if (field->number == 3 && field->type == Type::kVarint) persistable = field->varint != 0;
  }
  if (persistable && name != "feed" && name != "fetch") out.parameters.insert(name);
}

// ProgramDesc: blocks 1; BlockDesc: variables 3, operations 4; OpDesc: inputs 1; its Var: arguments 2.
Program read_program_desc(Bytes bytes) {
  Program out;
  each(bytes, 1, [&](const WireField& block) {
    each(block.payload, 3, [&](const WireField& variable) { read_variable(variable.payload, out); });
    each(block.payload, 4, [&](const WireField& operation) {
      std::vector<std::string>& taken = out.operations.emplace_back();
      each(operation.payload, 1, [&](const WireField& input) {
        each(input.payload, 2, [&](const WireField& argument) { taken.push_back(text_of(argument)); });
      });
    });
  });
  return out;
}

Program read_program(const Source& file) {
  return in_context(file.name, [&] {
    require(file.bytes.size() <= kMaxProgram, "{} bytes of program are more than the {} that are read",
            file.bytes.size(), kMaxProgram);
    const bool json = !file.bytes.empty() && static_cast<char>(file.bytes[0]) == '{';
    Program out = json ? read_pir(file.bytes) : read_program_desc(file.bytes);
    require(!out.parameters.empty(), "a program without parameters");
    require(out.parameters.size() <= kMaxParameters, "{} parameters", out.parameters.size());
    return out;
  });
}

// Parameters by first use, those of one operation by their roles.
std::vector<std::string> order_of_use(const Program& program) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (std::vector<std::string> taken : program.operations) {
    std::stable_sort(taken.begin(), taken.end(),
                     [](const std::string& a, const std::string& b) { return role_of(a) < role_of(b); });
    for (const std::string& name : taken)
      if (program.parameters.contains(name) && seen.insert(name).second) out.push_back(name);
  }
  return out;
}

// ---------------------------------------------------------------- Parameters

std::optional<DType> dtype_of_code(std::uint64_t code) {
  static const std::map<std::uint64_t, DType> kTypes{{0, DType::kBool}, {2, DType::kI32}, {3, DType::kI64},
                                                     {4, DType::kF16},  {5, DType::kF32}, {6, DType::kF64},
                                                     {20, DType::kU8},  {21, DType::kI8}, {22, DType::kBF16}};
  const auto it = kTypes.find(code);
  return it == kTypes.end() ? std::nullopt : std::optional(it->second);
}

// TensorDesc: element type 1, extents 2, packed or not.
Layout read_tensor_desc(Bytes message) {
  Layout out;
  std::optional<DType> type;
  WireReader in(message, "tensor");
  while (const auto field = in.next()) {
    if (field->number == 1 && field->type == Type::kVarint) type = dtype_of_code(field->varint);
    if (field->number == 2 && field->type == Type::kVarint)
      out.shape.push_back(static_cast<std::int64_t>(field->varint));
  }
  require(type.has_value(), "an element type that is not read");
  for (const std::int64_t extent : out.shape) require(extent >= 0, "a tensor of {}", to_string(out.shape));
  out.dtype = *type;
  out.strides = c_strides(out.shape);
  return out;
}

// Version 0, no levels of detail, version 0, the TensorDesc, and the values.
NamedTensor read_parameter(ByteReader& in, const std::string& name, const Source& file) {
  require(in.read<std::uint32_t>() == 0 && in.read<std::uint64_t>() == 0 && in.read<std::uint32_t>() == 0,
          "{}: is no tensor without levels at offset {}", printable(name), in.offset());
  const auto size = in.read<std::int32_t>();
  require(size >= 0, "{}: a description of {} bytes", printable(name), size);
  Layout layout = read_tensor_desc(in.take(static_cast<std::uint64_t>(size)));
  const auto count = static_cast<std::uint64_t>(element_count(layout.shape, printable(name)));
  const Bytes data = in.take(checked_mul(count, size_of(layout.dtype), printable(name)));
  NamedTensor out{.name = name, .dtype = layout.dtype, .shape = layout.shape};
  out.load = [layout, data, owner = file.owner] { return read_layout(layout, data, owner); };
  return out;
}

std::map<std::string, NamedTensor> read_parameters(const Source& file, const std::set<std::string>& names) {
  return in_context(file.name, [&] {
    std::map<std::string, NamedTensor> out;
    ByteReader in(file.bytes, "parameters");
    for (const std::string& name : names) out.emplace(name, read_parameter(in, name, file));
    require(in.done(), "{} bytes behind the last of {} parameters: is it another program's?", in.remaining(),
            names.size());
    return out;
  });
}

// The one program of a folder.
std::optional<fs::path> program_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".json" && path.extension() != ".pdmodel") continue;
    if (fs::exists(fs::path(path).replace_extension(".pdiparams"), ignored)) found.push_back(path);
  }
  if (found.empty()) return std::nullopt;
  require(found.size() == 1, "{}: holds several Paddle programs; give one of them", folder.string());
  return found[0];
}

}  // namespace

std::optional<PaddleInferenceFiles> find_paddle_inference(const fs::path& path) {
  std::error_code ignored;
  std::optional<fs::path> program = path;
  if (fs::is_directory(path, ignored)) program = program_in(path);
  if (!program) return std::nullopt;
  const fs::path parameters = fs::path(*program).replace_extension(".pdiparams");
  if (program->extension() == ".pdiparams") program = program_in(program->parent_path());
  if (!program || (program->extension() != ".json" && program->extension() != ".pdmodel"))
    return std::nullopt;
  if (!fs::exists(parameters, ignored)) return std::nullopt;
  return PaddleInferenceFiles{*program, parameters};
}

Checkpoint read_paddle_inference(const PaddleInferenceFiles& files) {
  return read_paddle_inference(open_source(files.program), open_source(files.parameters));
}

Checkpoint read_paddle_inference(const Source& program_file, const Source& parameters_file) {
  const Program program = read_program(program_file);
  std::map<std::string, NamedTensor> parameters = read_parameters(parameters_file, program.parameters);
  Checkpoint out{.format = kPaddleInference};
  for (const std::string& name : order_of_use(program))
    out.tensors.push_back(std::move(parameters.extract(name).mapped()));
  for (const auto& [name, spare] : parameters)
    out.scalars[name] = fmt::format("{}, which no operation uses", to_string(spare.shape));
  return out;
}

}  // namespace osprey
