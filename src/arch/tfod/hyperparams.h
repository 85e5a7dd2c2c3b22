// The Hyperparams message (object_detection/protos/hyperparams.proto): what follows a convolution, and
// whether it has a bias. Regularisers and initialisers are the training's.
#pragma once

#include <optional>
#include <string>

#include "arch/blocks/tf_layers.h"
#include "arch/tfod/config.h"

namespace osprey::tfod {

struct Hyperparams {
  Activation activation = Activation::kRelu;
  std::optional<TfNorm> norm;
  bool force_bias = false;

  bool bias() const { return force_bias || !norm || !norm->center; }
};

Hyperparams read_hyperparams(Config& config, const std::string& path);

// The norm, where there is one, then the activation.
ValueId norm_and_activate(Net& net, const std::string& norm_name, ValueId x, const Hyperparams& hyperparams);

}  // namespace osprey::tfod
