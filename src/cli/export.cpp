// osprey export: a checkpoint or model becomes a file for another runtime.
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"

namespace osprey {
namespace {

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  ExportOptions options;
  std::string output;
};

int run_export(const Options& o, const CommonOptions& common) {
  ImportReport report;
  {
    ProgressBar bar(!common.quiet);
    ExportOptions options = o.options;
    options.thresholds = o.thresholds.values;
    options.progress = [&](double fraction, const std::string& what) { bar.update(fraction, what); };
    report = export_model(o.source.options(), options, o.output);
  }
  print_report(report, common.quiet, common.verbose);
  return 0;
}

}  // namespace

Verb export_verb() {
  return {"export", "Export a checkpoint, model or int8 engine to an ONNX file of standard ops",
          "  osprey export model.onnx --target onnxruntime -o detector.onnx\n"
          "  osprey export model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml --target onnxruntime -o "
          "detector.onnx\n"
          "  osprey export int8.osprey --target onnxruntime -o quantised.onnx\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("--target", o->options.target,
                           "onnxruntime: standard ops of opset 17, images of any size")
                ->required();
            app.add_option("--input-format", o->options.input_format,
                           "Layout of the exported input: NCHW (1,3,H,W) or NHWC (1,H,W,3)")
                ->capture_default_str();
            app.add_option("-o,--output", o->output, "The ONNX file to write")->required();
            return [o, &common] { return run_export(*o, common); };
          }};
}

}  // namespace osprey
