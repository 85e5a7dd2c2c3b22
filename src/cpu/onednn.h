// oneDNN behind the executor's contracts: descriptors of values, packed weights, and primitives that run over
// a number of rows which is only known at run time.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include <dnnl.hpp>

#include "cpu/kernel.h"
#include "graph/enums.h"

namespace osprey {

const dnnl::engine& dnnl_engine();

dnnl::memory::data_type dnnl_type(DType type);

// The descriptor of `rows` rows of a value in its layout.
dnnl::memory::desc dnnl_desc(const CpuValue& value, std::int64_t rows);

// User-mode scratchpad, strict fp32, and the fused operations in this order: factors and then offsets of
// channels (of that many; 0: none), sum with what is in the destination, activation.
dnnl::primitive_attr dnnl_attributes(bool sum, Activation activation, std::int64_t affine_channels = 0);

// The last of these.
void append_activation(dnnl::post_ops& ops, Activation activation);

// Constants as oneDNN keeps them: the memory, and the bytes behind it where they are ours.
struct DnnlConstant {
  dnnl::memory memory;
  Tensor bytes;
};

// f32 values as a constant of that shape and strides.
DnnlConstant dnnl_constant(const Tensor& values, const dnnl::memory::desc& desc);

// What `plain` gives, in the format `wanted`; made once for each weight and format (`key` names the weight).
std::shared_ptr<const DnnlConstant> packed_weights(const CpuPrepare& prepare, const std::string& key,
                                                   const dnnl::memory::desc& wanted,
                                                   const std::function<DnnlConstant()>& plain);

// A value or constant that a primitive takes.
struct DnnlArgument {
  enum class From : std::uint8_t { kInput, kOutput, kScratch, kConstant };

  int name = 0;  // DNNL_ARG_SRC
  From from = From::kConstant;
  std::size_t index = 0;      // of the input or output; in scratch, the offset
  std::size_t row_bytes = 0;  // between rows
  dnnl::memory::desc desc;
  std::shared_ptr<const DnnlConstant> constant;
};

// Weight input i, f32 and of rank 1, as DNNL_ARG_BIAS of the given rank ([1, ..., O]).
DnnlArgument bias_argument(const CpuPrepare& prepare, std::size_t i, std::size_t rank = 1);

// Weight inputs of rank 1 as the factors and offsets of dnnl_attributes' channels.
std::array<DnnlArgument, 2> affine_arguments(const CpuPrepare& prepare, std::size_t factor,
                                             std::size_t offset);

// A primitive made for a fixed number of rows.
struct DnnlCall {
  std::int64_t rows = 0;
  dnnl::primitive primitive;
  dnnl::memory::desc scratchpad;
  std::vector<DnnlArgument> arguments;
  std::string implementation;
  std::size_t scratchpad_offset = 0;  // in the step's scratch
};

// Runs calls over the live rows of input 0: the largest that fits again and again, a padded one for the rest.
// An exact number of rows has one call.
class DnnlRows {
 public:
  // `sizes`: rows that calls are made for where the number depends on the data.
  DnnlRows(CpuPrepare& prepare, std::vector<std::int64_t> sizes,
           const std::function<DnnlCall(std::int64_t)>& make);

  // `after` is called behind each call with its first row and how many of its rows are live.
  void run(CpuRun& run, const std::function<void(std::int64_t row, std::int64_t rows)>& after = nullptr);
  const std::string& implementation() const { return calls_.front().call.implementation; }

 private:
  struct Ready {
    DnnlCall call;
    std::vector<dnnl::memory> memories;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  Ready& pick(std::int64_t rows, std::int64_t room);
  static Ready ready(DnnlCall call);
  static void execute(Ready& ready, CpuRun& run, std::int64_t row);

  std::vector<Ready> calls_;  // the largest first
  std::int64_t capacity_ = 0;
};

}  // namespace osprey
