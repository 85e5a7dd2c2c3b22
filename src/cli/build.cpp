// osprey build: a checkpoint or model becomes an engine file.
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"

namespace osprey {
namespace {

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  std::string output, device = "cpu", precision = "fp32", batch;
  std::vector<std::string> disabled;
};

Precision parse_precision(const std::string& text) {
  if (text == "fp32") return Precision::kFp32;
  if (text == "bf16") return Precision::kBf16;
  fail(ErrorCode::kUsage, "--precision {}: on the CPU this version has fp32 and bf16", text);
}

int build(const Options& o, const CommonOptions& common) {
  if (o.device != "cpu")
    fail(ErrorCode::kDevice, "--device {}: this version builds for the CPU only; use --device cpu", o.device);
  BuildOptions options{.precision = parse_precision(o.precision),
                       .thresholds = o.thresholds.values,
                       .disabled_passes = o.disabled};
  ImportReport report;
  {
    ProgressBar bar(!common.quiet);
    options.progress = [&](double fraction, const std::string& what) { bar.update(fraction, what); };
    report = build_engine(o.source.options(), options, o.output);
  }
  print_report(report, common.quiet, common.verbose);
  return 0;
}

}  // namespace

Verb build_verb() {
  return {"build", "Build an engine file from a checkpoint or a model",
          "  osprey build model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml -o m.osprey\n"
          "  osprey build model_final.pth --config config.yaml --precision bf16 -o m.osprey\n"
          "  osprey build model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml --size 1344x1344 -o m.osprey\n"
          "  osprey build model_final.pth --config config.yaml --set MODEL.ROI_HEADS.NUM_CLASSES=3 --labels "
          "names.txt -o m.osprey\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("-o,--output", o->output, "The engine file to write")->required();
            app.add_option("--device", o->device, "cpu")->capture_default_str();
            app.add_option("--precision", o->precision, "fp32 | bf16 (where the CPU computes in it)")
                ->capture_default_str();
            app.add_option("--batch", o->batch,
                           "N or MIN,OPT,MAX: accepted for other devices; on the CPU every batch runs");
            app.add_option("--disable-pass", o->disabled,
                           "Leave a rewrite out, by name (see `osprey ops --passes`)")
                ->allow_extra_args(false);
            return [o, &common] { return build(*o, common); };
          }};
}

}  // namespace osprey
