// pipeline.config of TensorFlow's Object Detection API: a TrainEvalPipelineConfig in protobuf's text form
// (object_detection/protos/pipeline.proto), without its schema. What is read here carries the schema's
// default; what concerns training alone is passed over by name; a field of the model that nobody asked for is
// refused by name when the model is built (close()).
//
// Paths are dotted, from the file's top: "model.ssd.num_classes", as --set has them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/config_reader.h"

namespace osprey::tfod {

class Config {
 public:
  explicit Config(ConfigTree tree);

  bool has(const std::string& path) { return reader_.find(path) != nullptr; }
  // The value of a field, or what the schema has for it. Numbers outside of `least` and `most` are bad input.
  int integer(const std::string& path, int standard, int least = 0, int most = 1 << 16);
  float number(const std::string& path, float standard);
  // A number from 0 to 1.
  float fraction(const std::string& path, float standard);
  bool flag(const std::string& path, bool standard);
  std::string text(const std::string& path, const std::string& standard);  // enums too
  std::vector<float> numbers(const std::string& path);                     // a repeated field
  // The field that is set in a message of alternatives ("fixed_shape_resizer"); empty when none is.
  std::string alternative(const std::string& path);

  // Of no meaning for detections.
  void ignore(const std::string& path) { reader_.ignore(path); }
  // Bad input unless the field has this value or is absent.
  void expect(const std::string& path, bool value, bool standard, std::string_view why);
  // Bad input, with the field's place in its file.
  [[noreturn]] void refuse(const std::string& path, std::string_view why);

  // Refuses every field that was neither read nor passed over.
  void close() const;

 private:
  std::unique_ptr<const ConfigTree> tree_;  // where the reader finds it when this is moved
  ConfigReader reader_;
};

struct Loaded {
  Config config;
  std::string name;                   // of the file, or the official name
  std::vector<std::string> warnings;  // of reading the file, which they call by its name alone
};

// `config` is a file, an official name ("ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8") or empty: then the
// file pipeline.config beside the checkpoint `source`, or in one of the folders above it that a zoo archive
// has. `overrides` are --set's.
Loaded load(const std::string& config, const std::string& source,
            const std::vector<std::pair<std::string, std::string>>& overrides);

}  // namespace osprey::tfod
