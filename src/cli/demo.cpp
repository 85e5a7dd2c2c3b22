// osprey demo: the shipped checkpoint, from its own format to pictures and mAP, as a user does it.
#include <chrono>

#include "cli/support/evaluation.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/shared_files.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "eval/detections_io.h"
#include "eval/report.h"
#include "osprey/draw.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

fs::path find_assets() { return shared_folder("demo", "assets/demo", "demo_mask_rcnn.pkl"); }

void print_detections(const std::string& file, const Detections& found,
                      const std::vector<std::string>& labels) {
  fmt::print("{}: {} things\n", file, found.items.size());
  for (const Detection& d : found.items)
    fmt::print("  {:<14} {:.2f}  box {:6.1f} {:6.1f} {:6.1f} {:6.1f}\n",
               labels[static_cast<std::size_t>(d.class_index)], d.score, d.box.x0, d.box.y0, d.box.x1,
               d.box.y1);
}

// Detections worth showing; the metrics take all.
Detections confident(const Detections& all) {
  Detections out{all.width, all.height, {}};
  for (const Detection& d : all.items)
    if (d.score >= 0.5f) out.items.push_back(d);
  return out;
}

int demo(const std::string& output, const CommonOptions& common) {
  const fs::path assets = find_assets(), folder = output, engine_file = folder / "demo.osprey";
  make_folder(folder / "pictures");
  fmt::print("1. import and build: {} -> {}\n", (assets / "demo_mask_rcnn.pkl").string(),
             engine_file.string());
  const ImportReport report = build_engine({.source = assets / "demo_mask_rcnn.pkl",
                                            .config = assets / "demo_mask_rcnn.yaml",
                                            .labels = assets / "labels.txt"},
                                           {}, engine_file);
  print_report(report, common.quiet, common.verbose);

  fmt::print("2. detect in held-out scenes\n");
  const auto engine = LoadedEngine::open(engine_file, {.threads = common.threads});
  const CocoAnnotations truth = load_coco_annotations(assets / "scenes/instances.json", {.masks = true});
  const std::vector<std::int64_t> ids = match_categories(engine->data().model.categories, truth);
  CocoResults boxes, masks;
  DetectionSession session(engine);
  const auto start = std::chrono::steady_clock::now();
  ProgressBar bar(!common.quiet);
  detect_all(
      session, {}, truth, assets / "scenes",
      [&](const CocoImage& image, const Image& photo, const Detections& found, std::size_t index) {
        append_coco_results(found, image.id, ids, CocoType::kBbox, boxes);
        append_coco_results(found, image.id, ids, CocoType::kSegm, masks);
        const Detections shown = confident(found);
        const std::string stem = fs::path(image.file_name).stem().string();
        write_image(folder / "pictures" / (stem + ".png"), draw_detections(photo, shown, engine->labels()));
        if (index < 3) print_detections(image.file_name, shown, engine->labels());
        bar.update(static_cast<double>(index + 1) / static_cast<double>(truth.images.size()), "detecting");
      });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print("   {} scenes in {:.1f} s, pictures included\n", truth.images.size(), took.count());

  const CocoEval box_eval = evaluate(truth, boxes, CocoType::kBbox),
                 mask_eval = evaluate(truth, masks, CocoType::kSegm);
  fmt::print("3. evaluate against the ground truth\n{}", summary_text(mask_eval));
  fmt::print("box mAP {:.3f}, mask mAP {:.3f}\n\n", box_eval.stats[0], mask_eval.stats[0]);
  fmt::print(
      "Look at the pictures in {}.\nWith your own model:\n"
      "  osprey build model_final.pkl --config mask_rcnn_R_50_FPN_3x.yaml -o m.osprey\n"
      "  osprey infer m.osprey photo.jpg -o out\n"
      "  osprey bench m.osprey --layers\n",
      (folder / "pictures").string());
  return 0;
}

}  // namespace

Verb demo_verb() {
  return {"demo", "The shipped model, from checkpoint to pictures and mAP",
          "  osprey demo\n"
          "  osprey demo -o out/demo\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto output = std::make_shared<std::string>("osprey-demo");
            app.add_option("-o,--output", *output, "Folder to write to")->capture_default_str();
            return [output, &common] { return demo(*output, common); };
          }};
}

}  // namespace osprey
