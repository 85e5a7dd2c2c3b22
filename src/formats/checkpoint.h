// A checkpoint file of any container that is read here, recognised by its contents, never by its name:
//
//   torch zip     .pth .pt since torch 1.6           torch legacy  .pth of torch 0.1 to 1.5
//   pickle        .pkl .pdparams: numpy arrays       npy, npz      numpy.save, numpy.savez
//   safetensors                                      TensorFlow's tensor bundle, by prefix or folder
//   Paddle's exported models, by folder or file (formats/paddle_inference.h)
//
// Nothing in the file is run. Tensors keep the file's order and borrow from the mapped file; only compressed,
// byte-swapped and strided ones are copied, when they are loaded. An array of an element type that is not
// read (numpy u4, torch.complex64) appears among the scalars with a note that says so.
//
// Every failure is Error(kBadInput) whose message starts with the file's name.
#pragma once

#include <filesystem>

#include "core/named_tensor.h"
#include "formats/source.h"

namespace osprey {

// A file; of TensorFlow's also a prefix or a folder (formats/tf_checkpoint.h), of Paddle's a folder.
Checkpoint read_checkpoint(const std::filesystem::path& path);
Checkpoint read_checkpoint(const Source& source);

}  // namespace osprey
