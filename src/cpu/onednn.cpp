#include "cpu/onednn.h"

#include <algorithm>

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

// CPU streams hold no state but their engine; one a thread keeps sessions apart all the same.
dnnl::stream& dnnl_stream() {
  static thread_local dnnl::stream stream(dnnl_engine());
  return stream;
}

// A padded call may waste up to this share of its rows; above it, smaller calls are cheaper.
constexpr double kLeastFill = 0.6;

// What tells two formats of one weight apart.
std::string format_key(const Desc& desc) {
  std::string key = std::to_string(static_cast<int>(desc.get_data_type()));
  const auto append = [&](char what, const dnnl::memory::dims& list) {
    key += what;
    for (const auto n : list) key += std::to_string(n) + ",";
  };
  append('d', desc.get_padded_dims());
  append('s', desc.get_strides());
  append('b', desc.get_inner_blks());
  append('i', desc.get_inner_idxs());
  return key;
}

Desc affine_desc(std::int64_t channels) {
  return {{1, channels, 1, 1}, dnnl::memory::data_type::f32, Tag::abcd};
}

}  // namespace

const dnnl::engine& dnnl_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type dnnl_type(DType type) {
  switch (type) {
    case DType::kF32:
      return dnnl::memory::data_type::f32;
    case DType::kBF16:
      return dnnl::memory::data_type::bf16;
    case DType::kF16:
      return dnnl::memory::data_type::f16;
    case DType::kI8:
      return dnnl::memory::data_type::s8;
    case DType::kU8:
      return dnnl::memory::data_type::u8;
    default:
      fail(ErrorCode::kInternal, "cpu: oneDNN gets no {}", name_of(type));
  }
}

Desc dnnl_desc(const CpuValue& value, std::int64_t rows) {
  dnnl::memory::dims dims(value.dims.begin(), value.dims.end());
  dims[0] = rows;
  if (dims.size() == 2) return {dims, dnnl_type(value.dtype), Tag::ab};
  switch (value.layout.block) {
    case 0:
      return {dims, dnnl_type(value.dtype), Tag::acdb};
    case 1:
      return {dims, dnnl_type(value.dtype), Tag::abcd};
    case 8:
      return {dims, dnnl_type(value.dtype), Tag::aBcd8b};
    case 16:
      return {dims, dnnl_type(value.dtype), Tag::aBcd16b};
    default:
      fail(ErrorCode::kInternal, "cpu: no layout with blocks of {}", value.layout.block);
  }
}

void append_activation(dnnl::post_ops& ops, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.f, 0.f);
      break;
    case Activation::kSigmoid:
      ops.append_eltwise(dnnl::algorithm::eltwise_logistic, 0.f, 0.f);
      break;
    case Activation::kSwish:
      ops.append_eltwise(dnnl::algorithm::eltwise_swish, 1.f, 0.f);
      break;
    case Activation::kRelu6:
      ops.append_eltwise(dnnl::algorithm::eltwise_clip, 0.f, 6.f);
      break;
  }
}

dnnl::primitive_attr dnnl_attributes(bool sum, Activation activation, std::int64_t affine_channels) {
  dnnl::primitive_attr out;
  out.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  out.set_fpmath_mode(dnnl::fpmath_mode::strict);
  dnnl::post_ops ops;
  if (affine_channels > 0) {
    const Desc channels = affine_desc(affine_channels);
    ops.append_binary(dnnl::algorithm::binary_mul, channels);
    ops.append_binary(dnnl::algorithm::binary_add, channels);
  }
  if (sum) ops.append_sum(1.f);
  append_activation(ops, activation);
  out.set_post_ops(ops);
  return out;
}

DnnlConstant dnnl_constant(const Tensor& values, const Desc& desc) {
  check(desc.get_size() <= values.bytes().size(), "oneDNN: a constant of {} bytes, not {}", desc.get_size(),
        values.bytes().size());
  return {dnnl::memory(desc, dnnl_engine(), const_cast<std::byte*>(values.bytes().data())), values};
}

std::shared_ptr<const DnnlConstant> packed_weights(const CpuPrepare& prepare, const std::string& key,
                                                   const Desc& wanted,
                                                   const std::function<DnnlConstant()>& plain) {
  const auto made = prepare.shared(key + ":" + format_key(wanted), [&]() -> std::shared_ptr<const void> {
    DnnlConstant from = plain();
    auto to = std::make_shared<DnnlConstant>();
    to->memory = dnnl::memory(wanted, dnnl_engine(), prepare.constant_memory(wanted.get_size()));
    dnnl::reorder(from.memory, to->memory).execute(dnnl_stream(), from.memory, to->memory);
    dnnl_stream().wait();
    return to;
  });
  return std::static_pointer_cast<const DnnlConstant>(made);
}

std::array<DnnlArgument, 2> affine_arguments(const CpuPrepare& prepare, std::size_t factor,
                                             std::size_t offset) {
  const auto argument = [&](int post_op, std::size_t i) {
    const auto made = prepare.shared(
        fmt::format("affine:{}", prepare.node().inputs[i]), [&]() -> std::shared_ptr<const void> {
          const Tensor values = prepare.weight(i).to_f32();
          return std::make_shared<DnnlConstant>(dnnl_constant(values, affine_desc(values.dim(0))));
        });
    const auto constant = std::static_pointer_cast<const DnnlConstant>(made);
    return DnnlArgument{DNNL_ARG_ATTR_MULTIPLE_POST_OP(post_op) | DNNL_ARG_SRC_1,
                        DnnlArgument::From::kConstant,
                        0,
                        0,
                        constant->memory.get_desc(),
                        constant};
  };
  return {argument(0, factor), argument(1, offset)};
}

DnnlArgument bias_argument(const CpuPrepare& prepare, std::size_t i, std::size_t rank) {
  const auto made = prepare.shared(fmt::format("bias:{}:{}", prepare.node().inputs[i], rank),
                                   [&]() -> std::shared_ptr<const void> {
                                     const Tensor values = prepare.weight(i).to_f32();
                                     dnnl::memory::dims dims(rank, 1);
                                     dims.back() = values.dim(0);
                                     const Tag tag = rank == 1 ? Tag::a : Tag::ab;
                                     return std::make_shared<DnnlConstant>(
                                         dnnl_constant(values, {dims, dnnl::memory::data_type::f32, tag}));
                                   });
  const auto constant = std::static_pointer_cast<const DnnlConstant>(made);
  return {DNNL_ARG_BIAS, DnnlArgument::From::kConstant, 0, 0, constant->memory.get_desc(), constant};
}

DnnlRows::DnnlRows(CpuPrepare& prepare, std::vector<std::int64_t> sizes,
                   const std::function<DnnlCall(std::int64_t)>& make) {
  const std::int64_t bound = prepare.input(0).dims.at(0);
  if (prepare.input_type(0).dims[0].is_exact()) {
    capacity_ = bound;
    sizes = {bound};
  } else {
    capacity_ = row_capacity(bound);
    std::sort(sizes.rbegin(), sizes.rend());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    std::erase_if(sizes, [&, least = sizes.back()](std::int64_t n) { return n > capacity_ && n != least; });
  }
  for (const std::int64_t n : sizes)
    if (n > 0) calls_.push_back(ready(make(n)));
  for (const Ready& r : calls_)
    for (const DnnlArgument& a : r.call.arguments)
      if (a.from == DnnlArgument::From::kScratch) prepare.request_scratch(a.index + a.desc.get_size());
}

DnnlRows::Ready DnnlRows::ready(DnnlCall call) {
  Ready out{std::move(call), {}, {}};
  out.call.arguments.push_back({DNNL_ARG_SCRATCHPAD, DnnlArgument::From::kScratch, out.call.scratchpad_offset,
                                0, out.call.scratchpad, nullptr});
  for (const DnnlArgument& a : out.call.arguments) {
    void* data = a.constant ? a.constant->memory.get_data_handle() : nullptr;
    out.memories.emplace_back(a.desc, dnnl_engine(), data);
    out.arguments.push_back({a.name, out.memories.back().get()});
  }
  return out;
}

DnnlRows::Ready& DnnlRows::pick(std::int64_t rows, std::int64_t room) {
  Ready* best = nullptr;
  for (Ready& r : calls_) {  // descending
    if (r.call.rows > room) continue;
    if (r.call.rows < rows) {
      if (!best) best = &r;
      break;
    }
    if (static_cast<double>(rows) >= kLeastFill * static_cast<double>(r.call.rows)) best = &r;
  }
  return best ? *best : calls_.back();
}

void DnnlRows::execute(Ready& r, CpuRun& run, std::int64_t row) {
  for (std::size_t i = 0; i < r.memories.size(); ++i) {
    const DnnlArgument& a = r.call.arguments[i];
    std::byte* base = nullptr;
    switch (a.from) {
      case DnnlArgument::From::kConstant:
        continue;
      case DnnlArgument::From::kInput:
        base = run.in(a.index).data;
        break;
      case DnnlArgument::From::kOutput:
        base = run.out(a.index).data;
        break;
      case DnnlArgument::From::kScratch:
        base = run.scratch().data() + a.index;
        break;
    }
    r.memories[i].set_data_handle(base + static_cast<std::size_t>(row) * a.row_bytes);
  }
  const dnnl_status_t status = dnnl_primitive_execute(
      r.call.primitive.get(), dnnl_stream().get(), static_cast<int>(r.arguments.size()), r.arguments.data());
  check(status == dnnl_success, "oneDNN: {} failed with status {}", r.call.implementation,
        static_cast<int>(status));
}

void DnnlRows::run(CpuRun& run, const std::function<void(std::int64_t, std::int64_t)>& after) {
  const std::int64_t rows = run.in(0).dims[0];
  for (std::int64_t at = 0; at < rows;) {
    Ready& next = pick(rows - at, capacity_ - at);
    execute(next, run, at);
    if (after) after(at, std::min(next.call.rows, rows - at));
    at += next.call.rows;
  }
}

}  // namespace osprey
