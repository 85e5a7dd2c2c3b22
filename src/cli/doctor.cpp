// osprey doctor: what this machine and this build have, and how to get the rest.
#include <filesystem>
#include <fstream>
#include <thread>

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/support/verb.h"
#include "cpu/isa.h"
#include "draw/fonts.h"
#include "engine/devices.h"
#include "osprey/version.h"

namespace osprey {
namespace {

struct Finding {
  std::string what, state, advice;  // advice: empty when all is well
};

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

double memory_gib() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) /
         (1 << 30);
}

void examine_cuda(std::vector<Finding>& out) {
  const CudaReport cuda = cuda_report();
  const auto library = [&](const char* name, const std::string& version, const char* advice) {
    out.push_back({name, version.empty() ? "not found" : version, version.empty() ? advice : ""});
  };
  if (!cuda.built) {
    out.push_back(
        {"cuda", "not in this build",
         "to run on NVIDIA GPUs, build Osprey where nvcc (CUDA 12 or 13) and cuDNN 9 are installed; "
         "cmake says what it misses"});
    return;
  }
  out.push_back({"cuda", cuda.runtime, ""});
  library("cudnn", cuda.cudnn,
          "install cuDNN 9 (Debian: cudnn9-cuda-13 from NVIDIA; PyPI: nvidia-cudnn-cu13)");
  library("cublaslt", cuda.cublaslt, "install cuBLAS of the same CUDA version (Debian: libcublas-13-0)");
  library("driver", cuda.driver, "install NVIDIA's driver to run on a GPU");
  if (cuda.gpus.empty()) out.push_back({"gpu", "none", cuda.why_none});
  for (const Gpu& gpu : cuda.gpus)
    out.push_back({fmt::format("gpu {}", gpu.index),
                   fmt::format("{}, compute capability {}, {:.0f} GiB", gpu.name, gpu.architecture,
                               static_cast<double>(gpu.memory) / (1 << 30)),
                   ""});
}

std::vector<Finding> examine() {
  std::vector<Finding> out;
  out.push_back({"osprey", kVersion, ""});
  out.push_back({"cpu",
                 fmt::format("{}, {} cores, {:.0f} GiB", cpu_model(), std::thread::hardware_concurrency(),
                             memory_gib()),
                 ""});
  out.push_back({"instructions", cpu_isa(), ""});
  out.push_back({"bf16", cpu_has_bf16() ? "computed by the CPU" : "not computed by this CPU",
                 cpu_has_bf16() ? "" : "bf16 engines run by conversion; use --precision fp32 here"});
  out.push_back({"onednn", onednn_version(), ""});
  out.push_back({"fonts", text_available() ? "found" : "none",
                 text_available() ? "" : "pictures come without names; install fonts-dejavu-core"});
  examine_cuda(out);
  return out;
}

int doctor(bool as_json) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Finding& f : examine()) {
    if (as_json)
      rows.push_back({{"what", f.what}, {"state", f.state}, {"advice", f.advice}});
    else
      fmt::print("{:<14} {}{}{}\n", f.what, f.state, f.advice.empty() ? "" : ": ", f.advice);
  }
  if (as_json) fmt::print("{}\n", rows.dump(2));
  return 0;
}

}  // namespace

Verb doctor_verb() {
  return {"doctor", "What this machine has, and how to get the rest",
          "  osprey doctor\n"
          "  osprey doctor --json\n",
          [](CLI::App&, const CommonOptions& common) { return [&common] { return doctor(common.json); }; }};
}

}  // namespace osprey
