// osprey build: a checkpoint or model becomes an engine file.
#include <algorithm>
#include <charconv>
#include <optional>

#include "cli/support/device_flags.h"
#include "cli/support/inputs.h"
#include "cli/support/int8_report.h"
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "engine/calibration_cache.h"
#include "engine/devices.h"

namespace osprey {
namespace {

struct CalibrationFlags {
  std::vector<std::string> photos;
  std::string method = "percentile";
  std::size_t count = 0;
  CalibrationOptions values;

  void declare(CLI::App& app) {
    app.add_option("--calib-input", photos,
                   "Photos like those to come (files, folders, globs): int8 is calibrated on them, and fp16 "
                   "checks that no layer overflows");
    app.add_option("--calib-num-images", count, "At most so many of them, evenly spaced; 0: all")
        ->capture_default_str();
    app.add_option("--calib-cache", values.cache,
                   "int8: where what calibration finds is kept, and read from if it is there");
    app.add_option("--calib-method", method,
                   "int8: minmax | percentile | entropy | mse: how large an activation's integers reach")
        ->capture_default_str();
    app.add_option("--calib-batch-size", values.batch,
                   "int8: photos after which an interrupted calibration goes on")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 20));
  }
};

struct AccuracyFlags {
  AccuracyOptions values;
  std::string report;

  void declare(CLI::App& app) {
    app.add_option("--max-detection-change", values.max_detection_change,
                   "int8: keep blocks of layers in fp32 (on cuda in fp16) until detections change by no more "
                   "than this against "
                   "fp32's, on photos that it was not calibrated on; 0: not at all, 1: nothing alike");
    CLI::Option* const drop = app.add_option(
        "--max-ap-drop", values.max_ap_drop,
        "int8: keep blocks of layers in fp32 (on cuda in fp16), all if need be, until AP falls "
        "by no more than this on photos like those that --calib-annotations names");
    app.add_option("--ap-margin", values.ap_margin,
                   "int8: standard errors that --max-ap-drop leaves room for above what is measured; 2: it "
                   "holds with a confidence of about 95 %; 0: take the photos as they are")
        ->capture_default_str()
        ->needs(drop);
    app.add_option("--calib-annotations", values.annotations, "int8: a COCO file of photos of --calib-input");
    app.add_option("--search-seconds", values.search_seconds,
                   "int8: after which fewer choices of blocks are tried")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    app.add_flag("--force", values.force, "int8: build even if hardly a detection of fp32's is left");
    app.add_option("--report", report,
                   "int8: a folder for a table of layers and pictures of detections in fp32 and int8");
  }
};

struct Options {
  SourceFlags source;
  ThresholdFlags thresholds;
  std::string output, device = "cpu", precision = "fp32", batch;
  std::optional<int> num_queries;
  TuningFlags tuning;
  std::vector<std::string> disabled;
  CalibrationFlags calibration;
  AccuracyFlags accuracy;
};

Precision parse_precision(const std::string& text) {
  for (const Precision p :
       {Precision::kFp32, Precision::kTf32, Precision::kBf16, Precision::kFp16, Precision::kInt8})
    if (text == name_of(p)) return p;
  fail(ErrorCode::kUsage, "--precision {}: there are fp32, tf32, bf16, fp16 and int8", text);
}

CalibrationMethod parse_method(const std::string& text) {
  for (const CalibrationMethod m : {CalibrationMethod::kMinMax, CalibrationMethod::kPercentile,
                                    CalibrationMethod::kEntropy, CalibrationMethod::kMse})
    if (text == name_of(m)) return m;
  fail(ErrorCode::kUsage, "--calib-method {}: there are minmax, percentile, entropy and mse", text);
}

// As many of the photos as asked for, evenly spaced over them; 0: all.
std::vector<std::filesystem::path> spread(std::vector<std::filesystem::path> photos, std::size_t count) {
  if (count == 0 || count >= photos.size()) return photos;
  std::vector<std::filesystem::path> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(std::move(photos[i * photos.size() / count]));
  return out;
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
                       .num_queries = o.num_queries,
                       .disabled_passes = o.disabled};
  options.calibration = o.calibration.values;
  options.accuracy = o.accuracy.values;
  options.calibration.method = parse_method(o.calibration.method);
  if (!o.calibration.photos.empty())
    options.calibration_photos = spread(find_images(o.calibration.photos), o.calibration.count);
  ImportReport report;
  {
    ProgressBar bar(!common.quiet);
    options.progress = [&](double fraction, const std::string& what) { bar.update(fraction, what); };
    report = build_engine(o.source.options(), options, o.output);
  }
  if (report.int8 && !o.accuracy.report.empty())
    write_int8_report(o.accuracy.report, *report.int8, Engine(o.output).labels());
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
          "  osprey build model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml --precision int8 --calib-input "
          "photos/ --calib-cache m.calib --max-detection-change 0.05 --report report -o m.osprey\n"
          "  osprey build model_final.pth --config config.yaml --set MODEL.ROI_HEADS.NUM_CLASSES=3 --labels "
          "names.txt -o m.osprey\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            o->source.declare(app);
            o->thresholds.declare(app);
            app.add_option("-o,--output", o->output, "The engine file to write")->required();
            app.add_option("--device", o->device, "cpu | cuda | cuda:N; a build for cuda needs no GPU")
                ->capture_default_str();
            app.add_option("--precision", o->precision, "fp32 | bf16 | int8; on cuda also tf32 | fp16")
                ->capture_default_str();
            app.add_option(
                "--batch", o->batch,
                "N or MIN,OPT,MAX: what tuning prepares for, and for which int8 on a GPU leaves small "
                "layers in fp16 (N, OPT); every batch runs");
            app.add_option("--num-queries", o->num_queries,
                           "DETRs: queries that are selected and decoded; default, and most: the config's");
            o->tuning.declare(app);
            o->calibration.declare(app);
            o->accuracy.declare(app);
            app.add_option("--disable-pass", o->disabled,
                           "Leave a rewrite out, by name (see `osprey ops --passes`)")
                ->allow_extra_args(false);
            return [o, &common] { return build(*o, common); };
          }};
}

}  // namespace osprey
