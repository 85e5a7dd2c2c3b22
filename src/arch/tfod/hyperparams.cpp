#include "arch/tfod/hyperparams.h"

namespace osprey::tfod {
namespace {

Activation read_activation(Config& config, const std::string& path) {
  const std::string name = config.text(path, "RELU");
  if (name == "NONE") return Activation::kNone;
  if (name == "RELU") return Activation::kRelu;
  if (name == "RELU_6") return Activation::kRelu6;
  if (name == "SWISH") return Activation::kSwish;
  config.refuse(path, "only NONE, RELU, RELU_6 and SWISH are");
}

TfNorm read_norm(Config& config, const std::string& path) {
  config.ignore(path + ".decay");
  config.ignore(path + ".train");
  const TfNorm out{.epsilon = config.number(path + ".epsilon", 1e-3f),
                   .scale = config.flag(path + ".scale", false),
                   .center = config.flag(path + ".center", true)};
  if (!(out.epsilon >= 0)) config.refuse(path + ".epsilon", "a norm needs one that is not negative");
  return out;
}

}  // namespace

Hyperparams read_hyperparams(Config& config, const std::string& path) {
  for (const char* training : {".op", ".regularizer", ".initializer", ".regularize_depthwise"})
    config.ignore(path + training);
  Hyperparams out{.activation = read_activation(config, path + ".activation"),
                  .norm = {},
                  .force_bias = config.flag(path + ".force_use_bias", false)};
  for (const char* norm : {".batch_norm", ".sync_batch_norm"})
    if (config.has(path + norm)) out.norm = read_norm(config, path + norm);
  if (config.has(path + ".group_norm")) config.refuse(path + ".group_norm", "only batch norms are");
  return out;
}

ValueId norm_and_activate(Net& net, const std::string& norm_name, ValueId x, const Hyperparams& hyperparams) {
  if (hyperparams.norm) x = tf_batch_norm(net, norm_name, x, *hyperparams.norm);
  return tf_activate(net, norm_name, x, hyperparams.activation);
}

}  // namespace osprey::tfod
