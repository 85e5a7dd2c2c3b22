// Runs the before/after texts of src/passes/*.test. A case is a pass (or `all`), a graph before and the graph
// expected after; cases are separated by '---'.
#include <algorithm>
#include <cmath>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "passes/pass.h"

namespace osprey {
namespace {

std::string section(const std::string& text, const std::string& from, const std::string& to) {
  const auto begin = text.find(from);
  if (begin == std::string::npos) return "";
  const auto start = begin + from.size();
  return text.substr(start, to.empty() ? std::string::npos : text.find(to, start) - start);
}

void run_case(const std::string& text) {
  const std::string name = section(text, "pass: ", "\n");
  const auto pass =
      std::find_if(pipeline().begin(), pipeline().end(), [&](const Pass& p) { return p.name == name; });
  ASSERT_NE(pass, pipeline().end()) << "no pass '" << name << "'";
  PassOptions options;
  if (const auto type = dtype_from_name(section(text, "precision: ", "\n"))) options.precision = *type;
  if (section(text, "exact_factors: ", "\n") == "in conv") options.exact_factors = ExactFactors::kInConv;
  if (section(text, "exact_factors: ", "\n") == "in norm") options.exact_factors = ExactFactors::kInNorm;
  std::istringstream keep(section(text, "keep_f32: ", "\n"));
  for (std::string node; keep >> node;) options.keep_f32.push_back(node);
  std::istringstream limits(section(text, "limits: ", "\n"));
  for (std::string value; limits >> value;) {
    const auto equals = value.find('=');
    options.quantization.limits[value.substr(0, equals)] = std::stof(value.substr(equals + 1));
  }
  std::istringstream kept(section(text, "\nkept: ", "\n"));
  for (std::string value; kept >> value;) options.quantization.kept.insert(value);
  Graph graph = parse_graph(section(text, "before:\n", "after:\n"));
  pass->run(graph, options);
  graph.compact();
  verify(graph);
  EXPECT_EQ(to_text(graph), section(text, "after:\n", ""));
}

TEST(Passes, TextCases) {
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(OSPREY_SOURCE_DIR "/src/passes")) {
    if (entry.path().extension() != ".test") continue;
    std::string text = read_text(entry.path());
    while (!text.empty()) {
      const auto end = text.find("---\n");
      SCOPED_TRACE(entry.path().filename().string() + ": " + text.substr(0, text.find('\n')));
      run_case(text.substr(0, end));
      ++cases;
      text = end == std::string::npos ? "" : text.substr(end + 4);
    }
  }
  EXPECT_GE(cases, 7);
}

// Each weight of 0.3 becomes 0.30005 in f16, and 64 of them 64 times as much more than they were.
TEST(Passes, FiltersKeepTheirSumsInF16) {
  std::vector<float> values(2 * 64, 0.3f);
  for (std::size_t i = 64; i < values.size(); i += 2) values[i] = 0;  // of the second filter
  const Graph graph = parse_graph(fmt::format(R"(graph g
input x: f32[N,16,h,w]
weight w: f32[2,16,2,2] = {}
y = conv(x, w) : f32[N,2,h-1,w-1]
output y
)",
                                              fmt::join(values, " ")));
  Graph narrow = graph;
  lower_precision(narrow, {.precision = DType::kF16});
  const Weight* weight = narrow.weight(narrow.nodes().back().inputs[1]);
  ASSERT_NE(weight, nullptr);
  const Tensor wide = weight->load().to_f32();
  const auto got = wide.values<float>();
  const double unit = 0x1p-12;  // in the last place of numbers about 0.3
  double sums[2] = {};
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[i / 64] += got[i];
    EXPECT_LE(std::abs(got[i] - values[i]), values[i] == 0 ? 0 : unit) << i;
  }
  EXPECT_NEAR(sums[0], 64 * double{0.3f}, unit / 2);
  EXPECT_NEAR(sums[1], 32 * double{0.3f}, unit / 2);
}

constexpr const char* kFoldable = R"(graph g
weight a: f32[1,2] = 1.0 2.0
weight b: f32[1,2] = 10.0 20.0
c = add(a, b)
output c
)";

TEST(Passes, ConstantsAreFoldedByTheCallersEvaluator) {
  PassOptions options;
  options.evaluate = [](const Node&, const std::vector<Tensor>& in) {
    Tensor out = Tensor::zeros(DType::kF32, in[0].shape());
    for (std::size_t i = 0; i < 2; ++i)
      out.mutable_values<float>()[i] = in[0].values<float>()[i] + in[1].values<float>()[i];
    return std::vector<Tensor>{out};
  };
  Graph graph = parse_graph(kFoldable);
  run_passes(graph, options);
  EXPECT_TRUE(graph.nodes().empty());
  ASSERT_EQ(graph.weights().size(), 1u);
  EXPECT_EQ(graph.weights()[0].load().values<float>()[1], 22.f);
}

TEST(Passes, ASwitchedOffPassDoesNotRunAndAnUnknownOneIsRefused) {
  Graph graph = parse_graph(kFoldable);
  const auto reports = run_passes(graph, {.disabled = {"fuse_residual"}});
  EXPECT_EQ(reports.size(), pipeline().size() - 1);
  EXPECT_THROW(run_passes(graph, {.disabled = {"fuse_everything"}}), Error);
}

}  // namespace
}  // namespace osprey
