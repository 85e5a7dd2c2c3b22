// osprey import: a checkpoint becomes a model, an ONNX file that keeps the checkpoint's names.
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"

namespace osprey {
namespace {

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  std::string output;
};

int run_import(const Options& o, const CommonOptions& common) {
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
          "  osprey build model.onnx -o model.osprey\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("-o,--output", o->output, "The model to write")->required();
            return [o, &common] { return run_import(*o, common); };
          }};
}

}  // namespace osprey
