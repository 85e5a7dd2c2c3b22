#include "formats/saved_model.h"

#include "core/error.h"
#include "formats/onnx_wire.h"
#include "formats/tf_types.h"

namespace osprey {
namespace {

using Type = WireField::Type;

constexpr int kMaxGraphs = 16;
constexpr std::size_t kMaxKeys = 4096, kMaxText = std::size_t{1} << 20, kShown = 200;

// Calls `take` with every length-delimited field.
template <class Take>
void each_part(Bytes message, const char* what, Take take) {
  WireReader in(message, what);
  while (const auto field = in.next())
    if (field->type == Type::kBytes) take(field->number, field->payload);
}

// An entry of a map: a text and a message.
struct MapEntry {
  std::string key;
  Bytes value;
};

MapEntry read_map_entry(Bytes message, const char* what) {
  MapEntry out;
  each_part(message, what, [&](std::uint32_t number, Bytes part) {
    if (number == 1) out.key = printable(as_text(part), kShown);
    if (number == 2) out.value = part;
  });
  return out;
}

// "uint8[1, ?, ?, 3]" of a TensorInfo.
std::string describe_tensor(Bytes message) {
  std::uint64_t type = 0;
  TfShape shape;
  WireReader in(message, "tensor");
  while (const auto field = in.next()) {
    if (field->number == 2 && field->type == Type::kVarint) type = field->varint;
    if (field->number == 3 && field->type == Type::kBytes) shape = read_tf_shape(field->payload);
  }
  return tf_type_name(type) + to_string(shape);
}

class Reader {
 public:
  std::map<std::string, std::string> read(Bytes file) {
    WireReader in(file, "saved model");
    int graphs = 0;
    bool versioned = false;
    while (const auto field = in.next()) {
      if (field->number == 1) {
        require(field->type == Type::kVarint && field->varint == 1,
                "is no SavedModel of version 1 (a frozen graph?)");
        versioned = true;
      }
      if (field->number != 2 || field->type != Type::kBytes) continue;
      require(versioned, "is no SavedModel: it does not begin with a version");
      require(++graphs <= kMaxGraphs, "more than {} meta graphs", kMaxGraphs);
      prefix_ = graphs == 1 ? "saved_model" : fmt::format("saved_model{}", graphs);
      read_meta_graph(field->payload);
    }
    require(graphs > 0, "is no SavedModel: it holds no graph (is the file truncated?)");
    return std::move(out_);
  }

 private:
  void read_meta_graph(Bytes message) {
    each_part(message, "meta graph", [&](std::uint32_t number, Bytes part) {
      if (number == 1) read_meta_info(part);
      if (number == 5) read_signature(read_map_entry(part, "signature"));
    });
  }

  void read_meta_info(Bytes message) {
    std::string tags;
    each_part(message, "meta info", [&](std::uint32_t number, Bytes part) {
      const std::string text = number == 4 || number == 5 ? printable(as_text(part), kShown) : std::string();
      if (number == 4 && tags.size() < kShown) tags += (tags.empty() ? "" : ", ") + text;
      if (number == 5) add("tensorflow_version", text);
    });
    if (!tags.empty()) add("tags", tags);
  }

  void read_signature(const MapEntry& signature) {
    if (signature.key == "__saved_model_init_op") return;  // of every SavedModel, without inputs
    const std::string name = "signature." + signature.key;
    each_part(signature.value, "signature", [&](std::uint32_t number, Bytes part) {
      if (number != 1 && number != 2) return;
      const MapEntry tensor = read_map_entry(part, "signature");
      add(fmt::format("{}.{}.{}", name, number == 1 ? "input" : "output", tensor.key),
          describe_tensor(tensor.value));
    });
  }

  void add(const std::string& key, std::string value) {
    std::string whole = prefix_ + '.' + key;
    text_ += whole.size() + value.size();
    require(text_ <= kMaxText, "more than {} bytes of signatures", kMaxText);
    out_[std::move(whole)] = std::move(value);
    require(out_.size() <= kMaxKeys, "more than {} inputs and outputs of signatures", kMaxKeys);
  }

  std::map<std::string, std::string> out_;
  std::string prefix_;
  std::size_t text_ = 0;
};

}  // namespace

std::map<std::string, std::string> read_saved_model(const Source& file) {
  return in_context(file.name, [&] { return Reader().read(file.bytes); });
}

}  // namespace osprey
