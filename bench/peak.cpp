// What the processor's arithmetic can give, as oneDNN reaches it: the faster of a 2048^3 matrix product and
// of a 3x3 convolution of 256 channels at 100x168, GFLOP/s. It divides into a network's floating-point
// operations to the floor of the network's time.
//
//   bench_peak THREADS f32|bf16    after "ready 0", one measurement for each line that it reads
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <dnnl.hpp>
#include <fmt/core.h>
#include <omp.h>

namespace osprey {
namespace {

using dnnl::memory;

// Random: constant data run faster on some processors.
memory filled(const memory::desc& desc, const dnnl::engine& engine, dnnl::stream& stream) {
  const auto dims = desc.get_dims();
  const memory::desc plain(dims, memory::data_type::f32,
                           dims.size() == 2 ? memory::format_tag::ab : memory::format_tag::abcd);
  memory source(plain, engine), out(desc, engine);
  std::minstd_rand random(1);
  auto* values = static_cast<float*>(source.get_data_handle());
  for (std::size_t i = 0; i < plain.get_size() / sizeof(float); ++i)
    values[i] = std::uniform_real_distribution<float>(-1, 1)(random);
  dnnl::reorder(source, out).execute(stream, source, out);
  stream.wait();
  return out;
}

struct Work {
  double flops = 0;
  std::function<void()> run;
};

template <class Primitive, class Desc>
Work bind(const Desc& desc, double flops, const memory::desc& other, const dnnl::engine& engine,
          dnnl::stream& stream) {
  const std::unordered_map<int, memory> args{{DNNL_ARG_SRC, filled(desc.src_desc(), engine, stream)},
                                             {DNNL_ARG_WEIGHTS, filled(other, engine, stream)},
                                             {DNNL_ARG_DST, memory(desc.dst_desc(), engine)}};
  return {flops, [primitive = Primitive(desc), args, stream]() mutable {
            primitive.execute(stream, args);
            stream.wait();
          }};
}

Work product(memory::data_type type, const dnnl::engine& engine, dnnl::stream& stream) {
  constexpr memory::dim kSize = 2048;
  const memory::desc any({kSize, kSize}, type, memory::format_tag::any);
  const dnnl::matmul::primitive_desc desc(engine, any, any, any);
  return bind<dnnl::matmul>(desc, 2.0 * kSize * kSize * kSize, desc.weights_desc(), engine, stream);
}

Work convolution(memory::data_type type, const dnnl::engine& engine, dnnl::stream& stream) {
  constexpr memory::dim kChannels = 256, kHeight = 100, kWidth = 168;
  const memory::desc map({1, kChannels, kHeight, kWidth}, type, memory::format_tag::any);
  const memory::desc weights({kChannels, kChannels, 3, 3}, type, memory::format_tag::any);
  const dnnl::convolution_forward::primitive_desc desc(engine, dnnl::prop_kind::forward_inference,
                                                       dnnl::algorithm::convolution_direct, map, weights, map,
                                                       {1, 1}, {1, 1}, {1, 1});
  return bind<dnnl::convolution_forward>(desc, 2.0 * kChannels * kChannels * 9 * kHeight * kWidth,
                                         desc.weights_desc(), engine, stream);
}

double rate(const Work& work) {
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work.run();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return work.flops / best * 1e-9;
}

int serve(int threads, memory::data_type type) {
  omp_set_num_threads(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const Work works[]{product(type, engine, stream), convolution(type, engine, stream)};
  fmt::print("ready 0\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print("{:.1f}\n", std::max(rate(works[0]), rate(works[1])));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_peak THREADS f32|bf16\n");
    return 2;
  }
  const bool bf16 = std::strcmp(argv[2], "bf16") == 0;
  return osprey::serve(std::atoi(argv[1]),
                       bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32);
}
