// osprey build: a checkpoint or model becomes an engine file.
#include <algorithm>
#include <charconv>

#include "cli/support/device_flags.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "engine/devices.h"

namespace osprey {
namespace {

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  std::string output, device = "cpu", precision = "fp32", batch;
  TuningFlags tuning;
  std::vector<std::string> disabled, calibration;
};

Precision parse_precision(const std::string& text) {
  for (const Precision p : {Precision::kFp32, Precision::kTf32, Precision::kBf16, Precision::kFp16})
    if (text == name_of(p)) return p;
  fail(ErrorCode::kUsage, "--precision {}: there are fp32, tf32, bf16 and fp16", text);
}

// The photos a run that are to be fast: N, or OPT of MIN,OPT,MAX. Engines take any number.
int parse_batch(const std::string& text) {
  if (text.empty()) return 1;
  std::vector<int> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    int value = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, value);
    if (error != std::errc() || stop != text.data() + end || value < 1 || value > 256) break;
    numbers.push_back(value);
    begin = end + 1;
  }
  const bool commas = std::count(text.begin(), text.end(), ',') + 1 == std::ssize(numbers);
  if (!commas || (numbers.size() != 1 && numbers.size() != 3) ||
      !std::is_sorted(numbers.begin(), numbers.end()))
    fail(ErrorCode::kUsage, "--batch {}: write N or MIN,OPT,MAX, each from 1 to 256", text);
  return numbers[numbers.size() / 2];
}

int build(const Options& o, const CommonOptions& common) {
  BuildOptions options{.device = o.device,
                       .precision = parse_precision(o.precision),
                       .tuning = o.tuning.values,
                       .tuning_batch = parse_batch(o.batch),
                       .threads = common.threads,
                       .thresholds = o.thresholds.values,
                       .disabled_passes = o.disabled};
  if (!o.calibration.empty()) options.calibration_photos = find_images(o.calibration);
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
          "  osprey build model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml --device cuda --precision fp16 "
          "--calib-input photos/ -o m.osprey\n"
          "  osprey build model_final.pth --config config.yaml --set MODEL.ROI_HEADS.NUM_CLASSES=3 --labels "
          "names.txt -o m.osprey\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("-o,--output", o->output, "The engine file to write")->required();
            app.add_option("--device", o->device, "cpu | cuda | cuda:N; a build for cuda needs no GPU")
                ->capture_default_str();
            app.add_option("--precision", o->precision, "fp32 | bf16; on cuda also tf32 | fp16")
                ->capture_default_str();
            app.add_option("--batch", o->batch,
                           "N or MIN,OPT,MAX: what tuning prepares for (N, OPT); every batch runs");
            o->tuning.declare(app);
            app.add_option(
                "--calib-input", o->calibration,
                "Photos like those to come (files, folders, globs), for fp16's check that no layer "
                "overflows");
            app.add_option("--disable-pass", o->disabled,
                           "Leave a rewrite out, by name (see `osprey ops --passes`)")
                ->allow_extra_args(false);
            return [o, &common] { return build(*o, common); };
          }};
}

}  // namespace osprey
