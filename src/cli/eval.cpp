// osprey eval: COCO's metrics, of an engine over annotated images or of results in a file.
#include <algorithm>

#include "cli/support/device_flags.h"
#include "cli/support/evaluation.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "eval/confusion.h"
#include "eval/detections_io.h"
#include "eval/plots.h"
#include "eval/proposal_recall.h"
#include "eval/report.h"

namespace osprey {
namespace {

struct Options {
  std::string engine, images, annotations, detections, save, plots, proposals;
  std::vector<std::string> types;
  DeviceFlags device;
  ThresholdFlags thresholds;
};

bool asks_for(const std::vector<CocoType>& types, CocoType type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

CocoParts parts_for(const std::vector<CocoType>& types) {
  return {.masks = asks_for(types, CocoType::kSegm), .keypoints = asks_for(types, CocoType::kKeypoints)};
}

std::vector<CocoType> chosen_types(const Options& o, std::vector<CocoType> defaults) {
  if (o.types.empty()) return defaults;
  std::vector<CocoType> out;
  // "segmentation" is what the TensorRT samples call segm.
  for (const std::string& name : o.types)
    out.push_back(coco_type_from_name(name == "segmentation" ? "segm" : name));
  return out;
}

// Each type's results: COCO sizes detections by their masks for segm, by their boxes for bbox.
struct Evaluated {
  std::vector<CocoEval> evals;
  std::vector<CocoResults> results;
  std::vector<ProposalRecall> recall;  // of an engine without classes
};

void finish(const Options& o, const CommonOptions& common, const CocoAnnotations& truth,
            const Evaluated& done) {
  if (common.json) {
    fmt::print("{}\n", eval_json(done.evals, done.recall));
  } else {
    for (const CocoEval& eval : done.evals)
      fmt::print("{}:\n{}\n{}\n", name_of(eval.type), summary_text(eval), class_table_text(eval));
    if (!done.recall.empty()) fmt::print("box_proposals, %:\n{}\n", recall_text(done.recall));
  }
  if (o.plots.empty()) return;
  for (std::size_t i = 0; i < done.evals.size(); ++i)
    write_plots(o.plots, done.evals[i], confusion_matrix(truth, done.results[i], done.evals[i].type));
}

Evaluated evaluate_file(const Options& o, CocoAnnotations& truth) {
  const std::vector<CocoType> types = chosen_types(o, {CocoType::kBbox});
  truth = load_coco_annotations(o.annotations, parts_for(types));
  Evaluated out;
  for (const CocoType type : types) {
    out.results.push_back(load_coco_results(o.detections, truth, parts_for({type})));
    out.evals.push_back(evaluate(truth, out.results.back(), type));
  }
  return out;
}

Evaluated evaluate_engine(const Options& o, const CommonOptions& common, CocoAnnotations& truth) {
  ProgressBar bar(!common.quiet);
  const auto engine = LoadedEngine::open(o.engine, o.device.options(common, bar));
  const ProposalSource proposals(o.proposals, o.engine, *engine);
  const std::vector<CocoType> types = chosen_types(o, types_of(*engine));
  for (const CocoType type : types)
    if (!asks_for(types_of(*engine), type))
      fail(ErrorCode::kUsage, "--type {}: the engine gives none", name_of(type));
  truth = load_coco_annotations(o.annotations, parts_for(types));
  if (!engine->has_classes()) pool_categories(truth, engine->data().model.categories.at(0));
  const std::vector<std::int64_t> ids = match_categories(engine->data().model.categories, truth);

  Evaluated out;
  out.results.resize(types.size());
  for (CocoResults& r : out.results) r.source = o.engine;
  std::optional<CocoResultsWriter> saved;
  if (!o.save.empty()) saved.emplace(o.save, ids);
  DetectionSession session(engine);
  detect_all(
      session, {.parameters = run_parameters(o.thresholds.values)}, truth, o.images,
      [&](const CocoImage& image, const Image&, const Detections& found, std::size_t index) {
        for (std::size_t t = 0; t < types.size(); ++t)
          append_coco_results(found, image.id, ids, types[t], out.results[t]);
        if (saved) saved->add(image.id, found);
        bar.update(static_cast<double>(index + 1) / static_cast<double>(truth.images.size()), "detecting");
      },
      proposals);
  if (saved) saved->commit();
  for (std::size_t t = 0; t < types.size(); ++t)
    out.evals.push_back(evaluate(truth, out.results[t], types[t]));
  if (!engine->has_classes()) out.recall = proposal_recall(truth, out.results.front());
  return out;
}

int eval(const Options& o, const CommonOptions& common) {
  if (o.engine.empty() == o.detections.empty())
    fail(ErrorCode::kUsage, "eval: give an ENGINE with --images, or results with --detections");
  if (!o.engine.empty() && o.images.empty())
    fail(ErrorCode::kUsage, "eval: --images DIR is needed to run an engine");
  CocoAnnotations truth;
  const Evaluated done = o.engine.empty() ? evaluate_file(o, truth) : evaluate_engine(o, common, truth);
  finish(o, common, truth, done);
  return 0;
}

}  // namespace

Verb eval_verb() {
  return {"eval", "COCO's metrics of an engine, or of results in a file",
          "  osprey eval m.osprey --images val2017 --annotations instances_val2017.json\n"
          "  osprey eval m.osprey --images val2017 --annotations instances_val2017.json --type segm --plots "
          "plots --json\n"
          "  osprey eval --detections coco_results.json --annotations instances_val2017.json --type bbox\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            app.add_option("ENGINE", o->engine, "An engine file");
            app.add_option("--images", o->images, "Folder of the images that the annotations name");
            app.add_option("--annotations", o->annotations, "COCO annotations (instances or keypoints)")
                ->required();
            app.add_option("--detections", o->detections,
                           "COCO results to evaluate instead of running an engine");
            app.add_option("--type,--detection-type", o->types,
                           "bbox, segm, keypoints; may be given again; default: all the engine gives");
            app.add_option("--save-detections", o->save, "Write the detections as COCO results");
            app.add_option("--plots", o->plots,
                           "Folder for precision-recall, per-class and confusion pictures");
            o->device.declare(app);
            o->thresholds.declare(app);
            declare_proposals(app, o->proposals);
            return [o, &common] { return eval(*o, common); };
          }};
}

}  // namespace osprey
