#include "arch/efficientdet/checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "arch/family/tf_weights.h"
#include "core/error.h"

namespace osprey::efficientdet {
namespace {

constexpr std::string_view kAverage = "/ExponentialMovingAverage";

bool is_float(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || type == DType::kF64;
}

std::string_view name_of(const NamedTensor& t) { return t.full_name.empty() ? t.name : t.full_name; }

std::string_view base_name(std::string_view name) {
  if (name.ends_with(kAverage)) name.remove_suffix(kAverage.size());
  return name;
}

bool is_training_state(const NamedTensor& t) {
  constexpr std::array<std::string_view, 5> kSlots{"/Momentum", "/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1"};
  const std::string_view name = name_of(t);
  return !is_float(t.dtype) || t.name.find("/.OPTIMIZER_SLOT/") != std::string::npos ||
         t.name.starts_with("optimizer/") || name == "beta1_power" || name == "beta2_power" ||
         std::any_of(kSlots.begin(), kSlots.end(), [&](std::string_view s) { return name.ends_with(s); });
}

// The squeeze's 1x1 convolutions work on vectors, as fully connected layers.
bool is_squeeze(std::string_view name) {
  return name.ends_with("/se/conv2d/kernel") || name.ends_with("/se/conv2d_1/kernel");
}

NamedTensor adapted(NamedTensor t, std::string_view name) {
  t.name = name;
  if (is_squeeze(name)) t = without_window(std::move(t));
  const TfLayout layout = tf_layout(t.name, t.shape.size());
  return from_tf(std::move(t), layout);
}

// The number behind `prefix` in a name that starts with it; -1 elsewhere.
int number_after(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return -1;
  int value = -1;
  std::from_chars(name.data() + prefix.size(), name.data() + name.size(), value);
  return value;
}

}  // namespace

bool is_efficientdet(const Checkpoint& checkpoint) {
  const auto has = [&](std::string_view prefix) {
    return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                       [&](const NamedTensor& t) { return name_of(t).starts_with(prefix); });
  };
  return has("class_net/class-predict/") && has("fpn_cells/cell_0/fnode0/");
}

Variables model_variables(const Checkpoint& checkpoint, bool averages) {
  struct Copies {
    const NamedTensor *raw = nullptr, *average = nullptr;
  };
  std::map<std::string_view, Copies> variables;
  for (const NamedTensor& t : checkpoint.tensors) {
    if (is_training_state(t)) continue;
    const std::string_view name = name_of(t);
    Copies& copies = variables[base_name(name)];
    (name.ends_with(kAverage) ? copies.average : copies.raw) = &t;
  }
  Variables out;
  for (const auto& [name, copies] : variables) {
    const bool average = copies.average && (averages || !copies.raw);
    out.tensors.push_back(adapted(average ? *copies.average : *copies.raw, name));
    if (average && copies.raw)
      out.passed_over.push_back(fmt::format("{} (superseded by its moving average)", name));
    else if (copies.average && !average)
      out.passed_over.push_back(fmt::format("{}{} (moving_average_decay is 0)", name, kAverage));
  }
  return out;
}

Traits traits_of(const Checkpoint& checkpoint) {
  Traits out;
  for (const NamedTensor& t : checkpoint.tensors) {
    const std::string_view name = base_name(name_of(t));
    if (name.starts_with("efficientnet-")) out.backbone = name.substr(0, name.find('/'));
    out.cells = std::max(out.cells, number_after(name, "fpn_cells/cell_") + 1);
    out.repeats = std::max(out.repeats, number_after(name, "class_net/class-") + 1);
    out.max_level = std::max(out.max_level, number_after(name, "class_net/class-0-bn-"));
    if (name == "fpn_cells/cell_0/fnode0/WSM") out.weighted = true;
    if (t.shape.size() != 1) continue;
    if (name.starts_with("class_net/class-0-bn-") && name.ends_with("/gamma"))
      out.width = static_cast<int>(std::clamp<std::int64_t>(t.shape[0], 0, 1 << 16));
    if (name == "class_net/class-predict/bias") out.class_outputs = t.shape[0];
  }
  return out;
}

std::string to_text(const Traits& t) {
  return fmt::format(
      "backbone_name {}, fpn_num_filters {}, fpn_cell_repeats {}, box_class_repeats {}, "
      "max_level {}, fpn_weight_method {}",
      t.backbone.empty() ? "unknown" : t.backbone, t.width, t.cells, t.repeats, t.max_level,
      t.weighted ? "fastattn" : "sum");
}

}  // namespace osprey::efficientdet
