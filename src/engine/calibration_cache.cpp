#include "engine/calibration_cache.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "osprey calibration 1";
constexpr std::string_view kPartialFormat = "osprey calibration 1, interrupted";

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
  void add(Bytes bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  void add(std::string_view text) { add(as_bytes(text)); }
  std::string text() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

bool is_preprocessing(const Node& node) {
  return node.op.name() == "resize_image" || node.op.name() == "normalize_image";
}

// A whole number that T holds. The library would convert any number, unchecked.
template <class T>
T whole(const Json& json) {
  const bool fits = json.is_number_unsigned()
                        ? std::in_range<T>(json.get<std::uint64_t>())
                        : json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
  require(fits, "{} is no whole number, or out of range", json.dump());
  return json.get<T>();
}

Json to_json(const CalibrationKey& key, std::string_view format) {
  return {{"format", format},
          {"model", key.model},
          {"preprocessing", key.preprocessing},
          {"method", key.method},
          {"photos", key.photos}};
}

CalibrationKey key_from(const Json& json) {
  return {json.at("model"), json.at("preprocessing"), json.at("method"),
          json.at("photos").get<std::vector<std::string>>()};
}

Json to_json(const Int8Decision& decision) {
  Json out = {{"bound", decision.bound}, {"kept", Json::array()}};
  for (const Int8Decision::Kept& kept : decision.kept)
    out["kept"].push_back({{"block", kept.block}, {"change", kept.change}});
  if (decision.searched) out["searched"] = *decision.searched;
  out["photos"] = decision.photos;
  if (decision.layers) out["layers"] = *decision.layers;
  out["change"] = decision.change;
  if (decision.ap_drop) {
    out["ap_drop"] = *decision.ap_drop, out["ap_error"] = decision.ap_error;
    out["annotated"] = decision.annotated, out["annotations"] = decision.annotations;
  }
  for (const Int8Decision::Tried& t : decision.tried)
    out["tried"].push_back({{"blocks", t.blocks}, {"drop", t.drop}, {"error", t.error}, {"holds", t.holds}});
  return out;
}

Int8Decision decision_from(const Json& json) {
  Int8Decision out{.bound = json.at("bound"),
                   .photos = whole<std::size_t>(json.at("photos")),
                   .change = json.at("change")};
  for (const Json& kept : json.at("kept")) out.kept.push_back({kept.at("block"), kept.at("change")});
  if (json.contains("searched")) out.searched = whole<std::size_t>(json["searched"]);
  if (json.contains("layers")) out.layers = whole<std::size_t>(json["layers"]);
  if (json.contains("ap_drop")) {
    out.ap_drop = json["ap_drop"].get<double>();
    out.ap_error = json.value("ap_error", 0.0);
    out.annotations = json.value("annotations", "");
    if (json.contains("annotated")) out.annotated = whole<std::size_t>(json["annotated"]);
  }
  if (json.contains("tried"))
    for (const Json& t : json["tried"])
      out.tried.push_back({whole<std::size_t>(t.at("blocks")), t.at("drop"), t.at("error"), t.at("holds")});
  return out;
}

// Reads a file of ours with `read`; whatever is wrong with it names the file.
template <class Read>
auto read_json(const std::filesystem::path& file, std::string_view format, Read read) {
  constexpr std::size_t kLimit = std::size_t{64} << 20;
  return in_context(file.string(), [&] {
    try {
      const Json json = Json::parse(read_text(file, kLimit));
      require(json.is_object() && json.value("format", "") == format, "is no '{}'", format);
      return read(json);
    } catch (const Json::exception& e) {
      bad_input("is damaged: {}", e.what());
    }
  });
}

// Runs of zeros, which histograms are full of, are one negative number.
Json packed(const std::vector<std::uint64_t>& bins) {
  Json out = Json::array();
  for (std::size_t i = 0; i < bins.size();) {
    std::size_t zeros = 0;
    while (i + zeros < bins.size() && bins[i + zeros] == 0) ++zeros;
    if (zeros > 0) {
      out.push_back(-static_cast<std::int64_t>(zeros));
      i += zeros;
    } else {
      out.push_back(bins[i++]);
    }
  }
  return out;
}

std::vector<std::uint64_t> unpacked(const Json& json) {
  std::vector<std::uint64_t> out;
  for (const Json& entry : json) {
    const auto n = whole<std::int64_t>(entry);
    if (n > 0) {
      out.push_back(static_cast<std::uint64_t>(n));
    } else {
      require(n < 0 && n >= -static_cast<std::int64_t>(Magnitudes::kBins), "a run of {} zeros", n);
      out.insert(out.end(), static_cast<std::size_t>(-n), 0);
    }
    require(out.size() <= Magnitudes::kBins, "a histogram of more than {} bins", Magnitudes::kBins);
  }
  return out;
}

}  // namespace

std::string hash_of_file(const std::filesystem::path& file) {
  Hasher hasher;
  hasher.add(MappedFile::open(file)->bytes());
  return hasher.text();
}

std::string_view name_of(CalibrationMethod method) {
  switch (method) {
    case CalibrationMethod::kMinMax:
      return "minmax";
    case CalibrationMethod::kPercentile:
      return "percentile";
    case CalibrationMethod::kEntropy:
      return "entropy";
    case CalibrationMethod::kMse:
      return "mse";
  }
  fail(ErrorCode::kUsage, "there is no calibration method {}", static_cast<int>(method));
}

CalibrationKey calibration_key(const Graph& graph, CalibrationMethod method,
                               const std::vector<std::filesystem::path>& photos) {
  CalibrationKey out{.model = {}, .preprocessing = {}, .method = std::string(name_of(method)), .photos = {}};
  std::istringstream text(to_text(graph));
  std::set<std::string> lines_before;
  Hasher model;
  for (const Node& node : graph.nodes())
    if (is_preprocessing(node)) lines_before.insert(graph.value(node.outputs[0]).name);
  for (std::string line; std::getline(text, line);) {
    const bool before = lines_before.contains(line.substr(0, line.find_first_of(", ")));
    if (before) {
      out.preprocessing += (out.preprocessing.empty() ? "" : "; ") + line;
    } else {
      model.add(line + "\n");
    }
  }
  for (const Weight& weight : graph.weights()) model.add(weight.load().bytes());
  out.model = model.text();
  for (const auto& photo : photos) out.photos.push_back(hash_of_file(photo));
  return out;
}

std::string mismatch(const CalibrationKey& cached, const CalibrationKey& wanted) {
  if (cached.preprocessing != wanted.preprocessing)
    return fmt::format("other preprocessing ({} instead of {})", cached.preprocessing, wanted.preprocessing);
  if (cached.model != wanted.model) return "another model, or the same with other weights or options";
  if (cached.method != wanted.method)
    return fmt::format("the method {} instead of {}", cached.method, wanted.method);
  if (wanted.photos.empty() || cached.photos == wanted.photos) return "";
  const auto in_both =
      std::count_if(wanted.photos.begin(), wanted.photos.end(), [&](const std::string& photo) {
        return std::find(cached.photos.begin(), cached.photos.end(), photo) != cached.photos.end();
      });
  return fmt::format("other photos ({}, of which {} are among the {} given)", cached.photos.size(), in_both,
                     wanted.photos.size());
}

void write_cache(const std::filesystem::path& file, const CalibrationCache& cache) {
  Json json = to_json(cache.key, kFormat);
  if (cache.decision) json["decision"] = to_json(*cache.decision);
  Json& values = json["values"] = Json::object();
  for (const auto& [name, v] : cache.values)
    values[name] = {{"least", v.least},
                    {"largest", v.largest},
                    {"limit", v.limit},
                    {"saturated", v.saturated},
                    {"sqnr", v.sqnr}};
  write_file(file, json.dump(1) + "\n");
}

CalibrationCache read_cache(const std::filesystem::path& file) {
  return read_json(file, kFormat, [](const Json& json) {
    CalibrationCache out{key_from(json), {}, std::nullopt};
    for (const auto& [name, v] : json.at("values").items()) {
      const CalibratedValue value{v.at("least"), v.at("largest"), v.at("limit"), v.at("saturated"),
                                  v.at("sqnr")};
      require(std::isfinite(value.limit) && value.limit >= 0, "the limit of {} is {}", name, value.limit);
      out.values[name] = value;
    }
    if (json.contains("decision")) out.decision = decision_from(json["decision"]);
    return out;
  });
}

void write_partial(const std::filesystem::path& file, const PartialCalibration& partial) {
  Json json = to_json(partial.key, kPartialFormat);
  json["done"] = partial.photos;
  json["unreadable"] = partial.unreadable;
  Json& values = json["values"] = Json::object();
  for (const auto& [name, magnitudes] : partial.values) {
    const Magnitudes::State s = magnitudes.state();
    values[name] = {
        {"least", s.least}, {"largest", s.largest}, {"exponent", s.exponent}, {"bins", packed(s.bins)}};
  }
  write_file(file, json.dump() + "\n");
}

PartialCalibration read_partial(const std::filesystem::path& file) {
  return read_json(file, kPartialFormat, [](const Json& json) {
    PartialCalibration out{key_from(json), whole<std::size_t>(json.at("done")), json.at("unreadable"), {}};
    require(out.photos <= out.key.photos.size(), "{} photos are done of {}", out.photos,
            out.key.photos.size());
    // A histogram may take a thousand times the room of its text.
    constexpr std::size_t kMostValues = 10000;
    require(json.at("values").size() <= kMostValues, "{} values are more than {}", json["values"].size(),
            kMostValues);
    for (const auto& [name, v] : json.at("values").items())
      out.values[name] = Magnitudes::from(
          {v.at("least"), v.at("largest"), whole<int>(v.at("exponent")), unpacked(v.at("bins"))});
    return out;
  });
}

}  // namespace osprey
