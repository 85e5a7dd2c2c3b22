// PaddlePaddle's exported models: a program, which says what is computed from which parameters, and all
// parameters one after the other without names (paddle.jit.save, tools/export_model.py).
//
//   X.json      the program as PIR writes it (Paddle 3)      X.pdmodel   as a protobuf message before that
//   X.pdiparams the parameters, in the order of their sorted internal names
//
// The tensors keep their internal names ("conv2d_0.w_0_deepcopy_58"), which say nothing of the model, but
// come in the order in which the program first uses them, those of one operation as w_0, b_0, w_1, w_2: with
// the model known, the order tells what each one is. Parameters that no operation uses are among the scalars.
//
// Limits: 16 MiB of program, 200,000 parameters.
#pragma once

#include <filesystem>
#include <optional>

#include "core/named_tensor.h"
#include "formats/source.h"

namespace osprey {

// The format that such a checkpoint has.
inline constexpr const char* kPaddleInference = "Paddle inference";

struct PaddleInferenceFiles {
  std::filesystem::path program, parameters;
};

// Of a folder, which must hold one program with its parameters, or of either file; none for anything else.
std::optional<PaddleInferenceFiles> find_paddle_inference(const std::filesystem::path& path);

Checkpoint read_paddle_inference(const PaddleInferenceFiles& files);
// Throws Error(kBadInput) that names the file at fault.
Checkpoint read_paddle_inference(const Source& program, const Source& parameters);

}  // namespace osprey
