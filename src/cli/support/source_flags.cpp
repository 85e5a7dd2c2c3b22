#include "cli/support/source_flags.h"

#include <charconv>

#include "core/error.h"

namespace osprey {
namespace {

std::pair<std::string, std::string> split_override(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    fail(ErrorCode::kUsage, "--set {}: write KEY=VALUE, like MODEL.ROI_HEADS.NUM_CLASSES=3", text);
  return {text.substr(0, equals), text.substr(equals + 1)};
}

// A file named "[x]" is no list (support/arguments.cpp).
std::string without_blank(const std::string& source) {
  return source.starts_with(" [") ? source.substr(1) : source;
}

int parse_side(std::string_view text, const std::string& size) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 16384)
    fail(ErrorCode::kUsage, "--size {}: write HEIGHTxWIDTH in pixels, like 1344x1344, or config", size);
  return value;
}

}  // namespace

void SourceFlags::declare(CLI::App& app) {
  app.add_option("SOURCE", source,
                 "Checkpoint (.pkl, .pth, .safetensors, TensorFlow folder, ...) or model (.onnx)")
      ->required()
      ->transform(without_blank);
  app.add_option("KEY_VALUE", pairs,
                 "KEY VALUE ...: keys of the config to change, as the frameworks' own tools take them");
  app.add_option("--config", config,
                 "The framework's config: a file, or an official name (see `osprey zoo`)");
  app.add_option("--set", overrides, "KEY=VALUE: change a key of the config; may be given again")
      ->allow_extra_args(false);
  app.add_option("--labels", labels,
                 "Class names: one a line, a COCO annotations file, or a label map (.pbtxt)");
  app.add_option("--size", size, "HxW: a fixed network input; config: sizes as the config says")
      ->capture_default_str();
}

SourceOptions SourceFlags::options() const {
  SourceOptions out{.source = source, .config = config, .labels = labels};
  for (const std::string& text : overrides) out.overrides.push_back(split_override(text));
  if (pairs.size() % 2 != 0)
    fail(ErrorCode::kUsage, "{}: keys of the config and their values come in pairs, like MODEL.DEVICE cpu",
         pairs.back());
  for (std::size_t i = 0; i < pairs.size(); i += 2) out.overrides.emplace_back(pairs[i], pairs[i + 1]);
  if (size == "config") return out;
  const auto x = size.find('x');
  if (x == std::string::npos) parse_side("", size);
  out.height = parse_side(std::string_view(size).substr(0, x), size);
  out.width = parse_side(std::string_view(size).substr(x + 1), size);
  return out;
}

void ThresholdFlags::declare(CLI::App& app) {
  app.add_option("--first-nms-threshold", values.first_score,
                 "Least probability of a proposal (models with two stages); default: none");
  app.add_option("--second-nms-threshold,--score-threshold", values.score,
                 "Least score of a detection; default: the model's own test threshold");
  app.add_option("--nms-iou", values.nms_iou,
                 "Overlap above which the lesser of two detections goes; default: the model's");
  app.add_option("--max-detections", values.max_detections, "Most detections an image; default: the model's");
  app.add_option("--mask-threshold", values.mask,
                 "Probability from which a pixel belongs to a mask; default: 0.5");
}

void print_report(const ImportReport& report, bool quiet, bool verbose) {
  if (quiet) return;
  fmt::print(stderr, "{}: {}, {} weights, {:.1f} million parameters\n", report.family, report.description,
             report.weights, static_cast<double>(report.parameters) / 1e6);
  if (verbose)
    for (const PassReport& pass : report.passes)
      fmt::print(stderr, "  pass {:<22} {:>8.3f} ms  {:>4} -> {} nodes\n", pass.name, pass.seconds * 1e3,
                 pass.nodes_before, pass.nodes_after);
  for (const std::string& remark : report.remarks) fmt::print(stderr, "{}\n", remark);
  if (report.unused_weights.empty()) return;
  constexpr std::size_t kShown = 20;
  const std::size_t shown =
      verbose ? report.unused_weights.size() : std::min(kShown, report.unused_weights.size());
  fmt::print(stderr, "warning: {} tensors of the checkpoint are not used by this model:\n",
             report.unused_weights.size());
  for (std::size_t i = 0; i < shown; ++i) fmt::print(stderr, "  {}\n", report.unused_weights[i]);
  if (shown < report.unused_weights.size())
    fmt::print(stderr, "  ... and {} more (--verbose lists all)\n", report.unused_weights.size() - shown);
}

}  // namespace osprey
