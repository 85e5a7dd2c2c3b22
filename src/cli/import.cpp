// osprey import: a checkpoint becomes a model, an ONNX file that keeps the checkpoint's names; or, with
// --trim, a checkpoint without some of its layers.
#include <nlohmann/json.hpp>

#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "engine/trim.h"

namespace osprey {
namespace {

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  TrimOptions trim;
  std::string output;
};

int run_trim(const Options& o, const CommonOptions& common) {
  const SourceFlags& s = o.source;
  if (!s.config.empty() || !s.labels.empty() || s.size != "config" || !s.overrides.empty() ||
      !s.pairs.empty())
    fail(ErrorCode::kUsage, "--trim writes a checkpoint, which takes no config, labels or size");
  if (std::filesystem::path(o.output).extension() != ".pth")
    fail(ErrorCode::kUsage, "{}: --trim writes a .pth, as torch.save does", o.output);
  const TrimReport report = trim_checkpoint(s.source, o.trim, o.output);
  if (common.json) {
    fmt::print("{}\n", nlohmann::json{{"removed", report.removed}, {"kept", report.kept}}.dump(
                           2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  for (const std::string& line : report.removed) fmt::print("removed {}\n", line);
  fmt::print("{} tensors kept -> {}\n", report.kept, o.output);
  return 0;
}

int run_import(const Options& o, const CommonOptions& common) {
  if (!o.trim.patterns.empty()) return run_trim(o, common);
  if (!o.trim.keep.empty()) fail(ErrorCode::kUsage, "--keep goes with --trim");
  ImportReport report;
  {
    ProgressBar bar(!common.quiet);
    const ImportOptions options{
        .thresholds = o.thresholds.values,
        .progress = [&](double fraction, const std::string& what) { bar.update(fraction, what); }};
    report = import_model(o.source.options(), options, o.output);
  }
  print_report(report, common.quiet, common.verbose);
  return 0;
}

}  // namespace

Verb import_verb() {
  return {"import", "Import a checkpoint into a model (.onnx) that keeps its names",
          "  osprey import model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml -o model.onnx\n"
          "  osprey import model_final.pth --config config.yaml --set MODEL.ROI_HEADS.NUM_CLASSES=3 --labels "
          "names.txt "
          "-o model.onnx\n"
          "  osprey build model.onnx -o model.osprey\n"
          "  osprey import model_final.pth --config e2e_mask_rcnn_R_50_FPN_1x.yaml -o model.onnx "
          "INPUT.MIN_SIZE_TEST 600\n"
          "  osprey import model_final.pkl --trim classes -o to_finetune.pth\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("-o,--output", o->output, "The model to write; with --trim a .pth")->required();
            app.add_option("--trim", o->trim.patterns,
                           "Write the checkpoint without the tensors of such names (*, ?), for training with "
                           "other classes; 'classes': the layers that depend on their number")
                ->allow_extra_args(false);
            app.add_option("--keep", o->trim.keep, "Names that --trim leaves")->allow_extra_args(false);
            return [o, &common] { return run_import(*o, common); };
          }};
}

}  // namespace osprey
