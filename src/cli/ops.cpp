// osprey ops: the table of ops and of the devices that run them; the list of passes.
#include <algorithm>

#include <nlohmann/json.hpp>

#include "cli/support/verb.h"
#include "cpu/kernel.h"
#include "engine/devices.h"
#include "graph/op_table.h"
#include "passes/pass.h"

namespace osprey {
namespace {

using nlohmann::json;

std::string cpu_types(const OpInfo& op) {
  const auto& kernels = cpu_kernels();
  const auto it =
      std::find_if(kernels.begin(), kernels.end(), [&](const CpuKernel& k) { return k.op == &op; });
  if (it == kernels.end()) return "";
  std::string out;
  for (const DType type : it->dtypes) out += (out.empty() ? "" : " ") + std::string(name_of(type));
  return out.empty() ? "any" : out;
}

int print_ops(bool as_json) {
  json rows = json::array();
  const char* const no_cuda = cuda_report().built ? "no kernel" : "not built";
  if (!as_json) fmt::print("{:<22} {:<14} {:<14} {}\n", "op", "cpu", "cuda", "attributes and their defaults");
  for (const OpInfo* op : op_table()) {
    std::string attributes;
    for (const Attribute& a : op->attributes(op->make({}).get()))
      attributes += fmt::format("{}{}={}", attributes.empty() ? "" : ", ", a.name, to_string(a.value));
    const std::string cpu = cpu_types(*op), cuda = cuda_types(*op);
    if (as_json)
      rows.push_back({{"op", op->name}, {"cpu", cpu}, {"cuda", cuda}, {"attributes", attributes}});
    else
      fmt::print("{:<22} {:<14} {:<14} {}\n", op->name, cpu.empty() ? "no kernel" : cpu,
                 cuda.empty() ? no_cuda : cuda, attributes);
  }
  if (as_json) fmt::print("{}\n", rows.dump(2));
  return 0;
}

int print_passes(bool as_json) {
  json rows = json::array();
  for (const Pass& pass : pipeline()) {
    if (as_json)
      rows.push_back({{"pass", pass.name}, {"why", pass.why_here}});
    else
      fmt::print("{:<22} {}\n", pass.name, pass.why_here);
  }
  if (as_json) fmt::print("{}\n", rows.dump(2));
  return 0;
}

}  // namespace

Verb ops_verb() {
  return {"ops", "The ops there are, what runs them, and the passes of a build",
          "  osprey ops\n"
          "  osprey ops --passes\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto passes = std::make_shared<bool>(false);
            app.add_flag("--passes", *passes, "The rewrites of a build, in their order");
            return [passes, &common] { return *passes ? print_passes(common.json) : print_ops(common.json); };
          }};
}

}  // namespace osprey
