#include "engine/engine_file.h"

#include <array>

#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/file.h"
#include "engine_generated.h"
#include "graph/op_table.h"

namespace osprey {
namespace {

constexpr std::array<char, 8> kMagic{'O', 'S', 'P', 'R', 'E', 'Y', '\0', '\1'};
constexpr std::uint64_t kAlignment = 64;
constexpr std::uint32_t kGraphSection = 1, kWeightsSection = 2;

struct Hash {
  std::uint64_t low = 0, high = 0;
  bool operator==(const Hash&) const = default;
};

struct Section {
  std::uint32_t kind = 0, zero = 0;
  std::uint64_t offset = 0, size = 0;
  Hash hash;
};

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t sections = 2, zero = 0;
  Hash table;
};
static_assert(sizeof(Header) == 32 && sizeof(Section) == 40);

std::uint64_t aligned(std::uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

Hash hash_of(Bytes bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return {h.low64, h.high64};
}

template <class T>
Bytes object_bytes(const T& object) {
  return {reinterpret_cast<const std::byte*>(&object), sizeof(T)};
}

// --- Writing ---------------------------------------------------------------------------------------------

using Builder = flatbuffers::FlatBufferBuilder;

flatbuffers::Offset<fb::Attribute> write_attribute(Builder& b, const Attribute& a) {
  const auto name = b.CreateString(a.name);
  struct Writer {
    Builder& b;
    flatbuffers::Offset<flatbuffers::String> name;
    using Out = flatbuffers::Offset<fb::Attribute>;
    Out operator()(bool v) { return fb::CreateAttribute(b, name, fb::AttributeKind_Bool, v ? 1 : 0); }
    Out operator()(std::int64_t v) { return fb::CreateAttribute(b, name, fb::AttributeKind_Int, v); }
    Out operator()(float v) { return fb::CreateAttribute(b, name, fb::AttributeKind_Float, 0, v); }
    Out operator()(const std::string& v) {
      return fb::CreateAttribute(b, name, fb::AttributeKind_String, 0, 0, b.CreateString(v));
    }
    Out operator()(const std::vector<std::int64_t>& v) {
      return fb::CreateAttribute(b, name, fb::AttributeKind_Ints, 0, 0, 0, b.CreateVector(v));
    }
    Out operator()(const std::vector<float>& v) {
      return fb::CreateAttribute(b, name, fb::AttributeKind_Floats, 0, 0, 0, 0, b.CreateVector(v));
    }
  };
  return std::visit(Writer{b, name}, a.value);
}

// The values in the order that a reader makes them, inputs, weights, results: in what order the graph was put
// together does not show, so a checkpoint and the Model imported from it give the same bytes.
class ValueOrder {
 public:
  explicit ValueOrder(const Graph& graph) : index_(graph.values().size(), kNoValue) {
    for (const ValueId id : graph.inputs()) place(id);
    for (const Weight& w : graph.weights()) place(w.value);
    for (const Node& node : graph.nodes())
      for (const ValueId id : node.outputs) place(id);
  }

  const std::vector<ValueId>& ids() const { return ids_; }
  int index(ValueId id) const { return id == kNoValue ? kNoValue : index_[static_cast<std::size_t>(id)]; }
  std::vector<int> indices(const std::vector<ValueId>& ids) const {
    std::vector<int> out;
    for (const ValueId id : ids) out.push_back(index(id));
    return out;
  }

 private:
  void place(ValueId id) {
    index_[static_cast<std::size_t>(id)] = static_cast<int>(ids_.size());
    ids_.push_back(id);
  }
  std::vector<int> index_;
  std::vector<ValueId> ids_;
};

flatbuffers::Offset<fb::Node> write_node(Builder& b, const Node& node, const ValueOrder& order) {
  std::vector<flatbuffers::Offset<fb::Attribute>> attributes;
  for (const Attribute& a : node.op.attributes()) attributes.push_back(write_attribute(b, a));
  return fb::CreateNode(b, b.CreateString(std::string(node.op.name())), b.CreateString(node.name),
                        b.CreateVector(attributes), b.CreateVector(order.indices(node.inputs)),
                        b.CreateVector(order.indices(node.outputs)));
}

std::vector<std::uint8_t> write_graph(const EngineData& engine, const std::vector<fb::WeightT>& weights) {
  const Graph& graph = engine.model.graph;
  Builder b;
  std::vector<flatbuffers::Offset<fb::Value>> values;
  const ValueOrder order(graph);
  for (const ValueId id : order.ids()) {
    const Value& v = graph.value(id);
    values.push_back(fb::CreateValue(b, b.CreateString(v.name), b.CreateString(to_string(v.type))));
  }
  std::vector<flatbuffers::Offset<fb::Node>> nodes;
  for (const Node& node : graph.nodes()) nodes.push_back(write_node(b, node, order));
  std::vector<flatbuffers::Offset<fb::Weight>> placed;
  for (const fb::WeightT& w : weights)
    placed.push_back(fb::CreateWeight(b, order.index(w.value), w.offset, w.size));
  std::vector<flatbuffers::Offset<fb::Category>> categories;
  for (const Category& c : engine.model.categories)
    categories.push_back(fb::CreateCategory(b, b.CreateString(c.name), c.id));
  std::vector<flatbuffers::Offset<fb::Entry>> metadata;
  for (const auto& [key, value] : engine.model.metadata)
    metadata.push_back(fb::CreateEntry(b, b.CreateString(key), b.CreateString(value)));
  b.Finish(fb::CreateEngine(
      b, b.CreateString(engine.version), b.CreateString(engine.device), b.CreateString(engine.precision),
      b.CreateString(engine.model.family), b.CreateString(engine.model.description),
      b.CreateString(graph.name()), b.CreateVector(values), b.CreateVector(nodes), b.CreateVector(placed),
      b.CreateVector(order.indices(graph.inputs())), b.CreateVector(order.indices(graph.outputs())),
      b.CreateVector(categories), b.CreateVector(metadata)));
  return {b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize()};
}

// Kernels divide by the extents of their weights.
std::uint64_t bytes_of(const TensorType& type, std::string_view name) {
  Shape shape;
  for (const Dim& d : type.dims) {
    require(d.is_constant(), "weight {} has a variable extent: {}", name, to_string(type));
    require(d.constant() > 0, "weight {} is empty: {}", name, to_string(type));
    shape.push_back(d.constant());
  }
  return checked_mul(static_cast<std::uint64_t>(element_count(shape, name)), size_of(type.dtype), name);
}

void pad_to(AtomicFile& out, std::uint64_t offset) {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  out.write(Bytes(kZeros.data(), offset - out.offset()));
}

// The weights one after the other, hashed on the way.
Hash write_weights(AtomicFile& out, const Graph& graph, const std::vector<fb::WeightT>& places,
                   std::uint64_t start, std::uint64_t total, const std::function<void(double)>& progress) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  const auto put = [&](Bytes bytes) {
    out.write(bytes);
    XXH3_128bits_update(state.get(), bytes.data(), bytes.size());
  };
  for (std::size_t i = 0; i < places.size(); ++i) {
    put(Bytes(kZeros.data(), start + places[i].offset - out.offset()));
    const Tensor data = graph.weights()[i].load();
    check(data.bytes().size() == places[i].size, "weight {}: {} bytes, not {}",
          graph.value(graph.weights()[i].value).name, data.bytes().size(), places[i].size);
    put(data.bytes());
    if (progress)
      progress(static_cast<double>(out.offset() - start) /
               static_cast<double>(std::max<std::uint64_t>(total, 1)));
  }
  const XXH128_hash_t h = XXH3_128bits_digest(state.get());
  return {h.low64, h.high64};
}

// --- Reading ---------------------------------------------------------------------------------------------

Bytes read_section(ByteReader& table, Bytes file, std::uint32_t kind, HashCheck hashes) {
  const auto section = table.read<Section>();
  require(section.kind == kind && section.zero == 0 && section.offset % kAlignment == 0,
          "section {} of the table is malformed", kind);
  const Bytes bytes = slice(file, section.offset, section.size, "engine section");
  require(hashes == HashCheck::kNone || hash_of(bytes) == section.hash,
          "section {} does not match its hash: the file is damaged; build it again", kind);
  return bytes;
}

// FlatBuffers' verifier does not look at how a vector's elements are aligned, which reading them relies on.
std::vector<std::int64_t> integers_of(const fb::Attribute& a) {
  if (!a.integers() || a.integers()->size() == 0) return {};
  require(reinterpret_cast<std::uintptr_t>(a.integers()->Data()) % alignof(std::int64_t) == 0,
          "attribute {}: its integers are misaligned", a.name()->str());
  return {a.integers()->begin(), a.integers()->end()};
}

AttributeValue read_attribute(const fb::Attribute& a) {
  switch (a.kind()) {
    case fb::AttributeKind_Bool:
      return a.integer() != 0;
    case fb::AttributeKind_Int:
      return a.integer();
    case fb::AttributeKind_Float:
      return a.real();
    case fb::AttributeKind_String:
      return a.text() ? a.text()->str() : std::string();
    case fb::AttributeKind_Ints:
      return integers_of(a);
    case fb::AttributeKind_Floats:
      return a.reals() ? std::vector<float>(a.reals()->begin(), a.reals()->end()) : std::vector<float>();
  }
  bad_input("attribute {} is of unknown kind {}", a.name()->str(), static_cast<int>(a.kind()));
}

// Keeps a mapping alive. When the last copy goes, the pages within `part` leave this process's memory; who
// reads them later brings them back from the file, since the mapping is read-only.
std::shared_ptr<const void> lease(std::shared_ptr<const MappedFile> file, Bytes part) {
  return {part.data(), [file = std::move(file), size = part.size()](const void* data) {
            const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
            const auto address = reinterpret_cast<std::uintptr_t>(data);
            const auto begin = (address + page - 1) / page * page, end = (address + size) / page * page;
            auto* const bytes = const_cast<std::byte*>(static_cast<const std::byte*>(data));
            if (begin < end) ::madvise(bytes + (begin - address), end - begin, MADV_DONTNEED);
          }};
}

// Rebuilds the graph through its own builders, so that every rule they hold is held here.
class GraphReader {
 public:
  GraphReader(const fb::Engine& in, Bytes weights, std::shared_ptr<const MappedFile> file)
      : in_(in),
        weights_(weights),
        file_(std::move(file)),
        graph_(in.graph()->str()),
        ids_(in.values()->size(), kNoValue) {}

  Graph read() {
    for (const int index : *in_.inputs()) define(index, graph_.add_input(name(index), type(index)));
    for (const fb::Weight* w : *in_.weights()) weight(*w);
    for (const fb::Node* n : *in_.nodes()) node(*n);
    for (const int index : *in_.outputs()) graph_.add_output(id(index));
    verify(graph_);
    return std::move(graph_);
  }

 private:
  const fb::Value& value(int index) const {
    require(index >= 0 && static_cast<std::size_t>(index) < ids_.size(), "value {} does not exist", index);
    return *in_.values()->Get(static_cast<unsigned>(index));
  }
  std::string name(int index) const { return value(index).name()->str(); }
  TensorType type(int index) const { return parse_type(value(index).type()->string_view()); }
  ValueId id(int index) const {
    value(index);
    const ValueId out = ids_[static_cast<std::size_t>(index)];
    require(out != kNoValue, "value {} is used before it is made", name(index));
    return out;
  }
  void define(int index, ValueId made) {
    require(ids_[static_cast<std::size_t>(index)] == kNoValue, "value {} is made twice", name(index));
    require(graph_.value(made).name == name(index), "two values are named '{}'", name(index));
    ids_[static_cast<std::size_t>(index)] = made;
  }

  void weight(const fb::Weight& w) {
    const TensorType t = type(w.value());
    const Bytes data = slice(weights_, w.offset(), w.size(), "weights");
    require(w.offset() % kAlignment == 0, "weight {} lies at offset {}", name(w.value()), w.offset());
    require(bytes_of(t, name(w.value())) == w.size(), "weight {} has {} bytes for {}", name(w.value()),
            w.size(), to_string(t));
    // Executors pack weights into memory of their own: what was read is not kept beside it.
    auto load = [dtype = t.dtype, shape = constant_shape(t), data, file = file_] {
      return Tensor::borrow(dtype, shape, data, lease(file, data));
    };
    define(w.value(), graph_.add_weight(name(w.value()), t, std::move(load)));
  }

  void node(const fb::Node& n) {
    const OpInfo& info = find_op(n.op()->string_view());
    Attributes attributes;
    if (n.attributes())
      for (const fb::Attribute* a : *n.attributes())
        attributes.push_back({a->name()->str(), read_attribute(*a)});
    std::vector<ValueId> inputs;
    if (n.inputs())
      for (const int index : *n.inputs()) inputs.push_back(index == -1 ? kNoValue : id(index));
    const std::size_t outputs = n.outputs() ? n.outputs()->size() : 0;
    const std::vector<ValueId> made =
        graph_.add_node(Op(&info, info.make(attributes)), std::move(inputs), n.name()->str()).outputs;
    require(made.size() == outputs, "node {} has {} outputs, {} gives {}", n.name()->str(), outputs,
            info.name, made.size());
    for (std::size_t i = 0; i < outputs; ++i) {
      const int index = n.outputs()->Get(static_cast<unsigned>(i));
      const std::string wanted = name(index);
      graph_.rename(made[i], wanted);
      define(index, made[i]);
      require(graph_.value(made[i]).type == type(index), "value {} is {}, not {}", wanted,
              to_string(graph_.value(made[i]).type), value(index).type()->str());
    }
  }

  const fb::Engine& in_;
  Bytes weights_;
  std::shared_ptr<const MappedFile> file_;
  Graph graph_;
  std::vector<ValueId> ids_;
};

EngineData read_mapped(const std::shared_ptr<const MappedFile>& file, HashCheck hashes) {
  ByteReader in(file->bytes(), "engine header");
  require(is_engine(file->bytes()), "is no Osprey engine");
  const auto header = in.read<Header>();
  require(header.magic == kMagic, "was built in format {}, this Osprey reads format {}; build it again",
          static_cast<int>(header.magic[7]), static_cast<int>(kMagic[7]));
  require(header.sections == 2 && header.zero == 0, "has {} sections, not 2", header.sections);
  const Bytes table_bytes = in.take(2 * sizeof(Section));
  require(hashes == HashCheck::kNone || hash_of(table_bytes) == header.table,
          "its section table does not match its hash: the file is damaged; build it again");
  ByteReader table(table_bytes, "engine section table");
  const Bytes graph = read_section(table, file->bytes(), kGraphSection, hashes);
  const Bytes weights = read_section(table, file->bytes(), kWeightsSection, hashes);

  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(graph.data()), graph.size(), 32,
                                 4'000'000);
  require(fb::VerifyEngineBuffer(verifier), "its description is malformed");
  const fb::Engine& engine = *fb::GetEngine(graph.data());
  EngineData out{{GraphReader(engine, weights, file).read(),
                  engine.family()->str(),
                  engine.description()->str(),
                  {},
                  {},
                  {}},
                 engine.version()->str(),
                 engine.device()->str(),
                 engine.precision()->str()};
  if (engine.categories())
    for (const fb::Category* c : *engine.categories())
      out.model.categories.push_back({c->name()->str(), c->id()});
  if (engine.metadata())
    for (const fb::Entry* e : *engine.metadata())
      out.model.metadata.emplace(e->key()->str(), e->value()->str());
  return out;
}

}  // namespace

bool is_engine(Bytes head) {
  return head.size() >= kMagic.size() && std::memcmp(head.data(), kMagic.data(), kMagic.size() - 1) == 0;
}

void write_engine(const std::filesystem::path& file, const EngineData& engine,
                  const std::function<void(double)>& progress) {
  const Graph& graph = engine.model.graph;
  std::vector<fb::WeightT> places;
  std::uint64_t size = 0;
  for (const Weight& w : graph.weights()) {
    fb::WeightT place;
    place.value = w.value;
    place.offset = aligned(size);
    place.size = bytes_of(graph.value(w.value).type, graph.value(w.value).name);
    size = place.offset + place.size;
    places.push_back(place);
  }
  const std::vector<std::uint8_t> description = write_graph(engine, places);
  const Bytes description_bytes{reinterpret_cast<const std::byte*>(description.data()), description.size()};

  std::array<Section, 2> table;
  table[0] = {kGraphSection, 0, aligned(sizeof(Header) + sizeof(table)), description.size(),
              hash_of(description_bytes)};
  table[1] = {kWeightsSection, 0, aligned(table[0].offset + table[0].size), size, {}};
  AtomicFile out(file);
  out.write(object_bytes(Header{}));
  out.write(object_bytes(table));
  pad_to(out, table[0].offset);
  out.write(description_bytes);
  pad_to(out, table[1].offset);
  table[1].hash = write_weights(out, graph, places, table[1].offset, size, progress);

  Header header;
  header.table = hash_of(object_bytes(table));
  out.write_at(0, object_bytes(header));
  out.write_at(sizeof(Header), object_bytes(table));
  out.commit();
}

EngineData read_engine(const std::filesystem::path& file, HashCheck hashes) {
  try {
    return read_mapped(MappedFile::open(file), hashes);
  } catch (const Error& e) {
    // Whatever rule a file from outside breaks, it is the file that is bad.
    throw Error(ErrorCode::kBadInput, fmt::format("{}: {}", file.string(), e.what()));
  }
}

}  // namespace osprey
