// The two stages apart: the cases' checkpoints as region proposal networks, whose detections must be the
// golden proposals as Detectron2's ProposalNetwork gives them, and as Fast R-CNNs, which must find the golden
// detections in the golden proposals.
#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {
namespace {

using testing::Each;
using testing::Field;
using testing::SizeIs;

// As detectron2_test.cpp has them.
constexpr double kProposalPixels = 0.03;  // of the network's input
constexpr double kLogit = 1e-3;           // of the largest magnitude
constexpr double kMatchedProposals = 0.995;

// What detector_postprocess makes of proposals: scaled, clipped, and dropped where nothing is left.
struct Expected {
  std::vector<Corners> boxes;
  std::vector<double> logits;
  double scale = 1;  // network pixels -> photo pixels, the larger of the two
};

Expected in_photo(const GoldenArrays& golden, const Image& photo) {
  const auto network = golden.doubles("image_size_hw");
  const double y = photo.height / network[0], x = photo.width / network[1];
  const auto boxes = corners_of(golden.tensor("proposal_boxes"));
  const auto logits = golden.doubles("proposal_logits");
  Expected out{{}, {}, std::max(x, y)};
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const auto inside = [](double v, int extent) { return std::clamp(v, 0.0, static_cast<double>(extent)); };
    const Corners box{inside(boxes[i][0] * x, photo.width), inside(boxes[i][1] * y, photo.height),
                      inside(boxes[i][2] * x, photo.width), inside(boxes[i][3] * y, photo.height)};
    if (box[2] <= box[0] || box[3] <= box[1]) continue;
    out.boxes.push_back(box);
    out.logits.push_back(logits[i]);
  }
  return out;
}

// `got` holds the golden proposals first; a proposal network may keep more of them than a detector.
void expect_proposals(const Detections& got, const Expected& golden) {
  ASSERT_GE(got.items.size(), golden.boxes.size());
  EXPECT_THAT(got.items, Each(Field(&Detection::class_index, 0)));
  EXPECT_TRUE(std::is_sorted(got.items.begin(), got.items.end(),
                             [](const Detection& a, const Detection& b) { return a.score > b.score; }));
  std::vector<Corners> boxes;
  for (std::size_t i = 0; i < golden.boxes.size(); ++i) {
    const Box& b = got.items[i].box;
    boxes.push_back({b.x0, b.y0, b.x1, b.y1});
  }
  const auto rows = match_boxes(golden.boxes, boxes, kProposalPixels * golden.scale);
  std::size_t matched = 0;
  double largest = 0, worst = 0;
  for (std::size_t g = 0; g < rows.size(); ++g) {
    largest = std::max(largest, std::abs(golden.logits[g]));
    if (!rows[g]) continue;
    ++matched;
    worst = std::max(worst, std::abs(golden.logits[g] - got.items[*rows[g]].score));
  }
  std::printf("  %zu of %zu proposals within %.3f px of the photo, logits within %.1e of the largest\n",
              matched, rows.size(), kProposalPixels * golden.scale, worst / largest);
  EXPECT_GE(static_cast<double>(matched), kMatchedProposals * static_cast<double>(rows.size()));
  EXPECT_LE(worst, kLogit * largest);
}

struct ProposalCase {
  ModelCase model;
  std::string device = "cpu";
  std::size_t most = 0;  // proposals the config keeps, where these are more than the golden ones
};

std::ostream& operator<<(std::ostream& out, const ProposalCase& c) {
  return out << c.model.name << " on " << c.device;
}

class ProposalNetwork : public testing::TestWithParam<ProposalCase> {};

TEST_P(ProposalNetwork, GivesTheGoldenProposals) {
  const ModelCase& c = GetParam().model;
  OSPREY_NEEDS_FIXTURE(fixture("detectron2") / c.name)
  OSPREY_NEEDS_DEVICE(GetParam().device)
  const CaseEngine built(c, {.device = GetParam().device});
  const Image photo = read_image(fixture("images") / c.photo);
  Session session{Engine(built.file(), {.tuning = quick_tuning()})};
  const GoldenArrays golden(fixture("detectron2") / c.name / "golden.npz");
  const Expected expected = in_photo(golden, photo);
  const Detections found = session.detect(photo);
  EXPECT_LE(found.items.size(), std::max(GetParam().most, expected.boxes.size()));
  expect_proposals(found, expected);

  // Thresholds compare logits, and the number kept is that of detections.
  const float floor = found.items[20].score;
  const Detections best = session.detect(photo, {.score = floor});
  ASSERT_FALSE(best.items.empty());
  EXPECT_THAT(best.items, Each(Field(&Detection::score, testing::Gt(floor))));
  EXPECT_THAT(session.detect(photo, {.max_detections = 7}).items, SizeIs(7));
}

// A detector's own config with another architecture, and the zoo's, which keeps twice as many.
const ModelCase kNarrowRpn{.name = "mask_rcnn_narrow",
                           .photo = "chelsea.png",
                           .overrides = {{"MODEL.META_ARCHITECTURE", "ProposalNetwork"}}};
const ModelCase kZooRpn{
    .name = "faster_rcnn_R_50_FPN", .photo = "chelsea.png", .config = "COCO-Detection/rpn_R_50_FPN_1x.yaml"};

std::string case_name(const testing::TestParamInfo<ProposalCase>& c) { return c.param.model.name; }

INSTANTIATE_TEST_SUITE_P(Cases, ProposalNetwork,
                         testing::Values(ProposalCase{kNarrowRpn}, ProposalCase{kZooRpn, "cpu", 2000}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, ProposalNetwork,
                         testing::Values(ProposalCase{kNarrowRpn, "cuda"},
                                         ProposalCase{kZooRpn, "cuda", 2000}),
                         case_name);

// As detectron2_test.cpp has them.
constexpr double kBoxPixels = 0.05, kScore = 1e-3, kMatchIou = 0.99;

std::vector<ClassedBox> golden_detections(const GoldenArrays& golden) {
  const auto boxes = corners_of(golden.tensor("det_boxes"));
  const auto scores = golden.doubles("det_scores"), classes = golden.doubles("det_classes");
  const auto rows = golden.doubles("det_index");
  std::vector<ClassedBox> out;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const auto row = static_cast<std::size_t>(rows[i]);
    out.push_back({boxes[i], static_cast<int>(classes[row]), scores[row]});
  }
  return out;
}

void expect_detections(const Detections& found, const std::vector<ClassedBox>& golden) {
  const auto got = classed_boxes(found);
  const auto pairs = match_detections(golden, got, kMatchIou);
  double box = 0, score = 0;
  for (const auto& [g, k] : pairs) {
    for (std::size_t c = 0; c < 4; ++c) box = std::max(box, std::abs(golden[g].box[c] - got[k].box[c]));
    score = std::max(score, std::abs(golden[g].score - got[k].score));
  }
  std::printf("  %zu of %zu detections, %zu found; boxes within %.4f px, scores within %.1e\n", pairs.size(),
              golden.size(), got.size(), box, score);
  EXPECT_THAT(pairs, SizeIs(golden.size())) << "missing detections";
  EXPECT_THAT(got, SizeIs(golden.size())) << "extra detections";
  EXPECT_LE(box, kBoxPixels);
  EXPECT_LE(score, kScore);
}

// The golden proposals in no order, as files may have them, among boxes that Detectron2 drops, and boxes that
// come after the thousand that the config takes.
std::vector<Proposal> shuffled(const Expected& golden) {
  std::vector<Proposal> out{{{9e3f, 9e3f, 1e4f, 1e4f}, 1e6f}, {{5, 5, 5, 50}, 1e6f}};
  for (std::size_t i = golden.boxes.size(); i-- > 0;) {
    const Corners& b = golden.boxes[i];
    out.push_back({{static_cast<float>(b[0]), static_cast<float>(b[1]), static_cast<float>(b[2]),
                    static_cast<float>(b[3])},
                   static_cast<float>(golden.logits[i])});
  }
  if (golden.boxes.size() == 1000)
    for (int i = 0; i < 500; ++i) out.push_back({{0, 0, 20, static_cast<float>(20 + i % 200)}, -1e6f});
  return out;
}

class FastRcnn : public testing::TestWithParam<ProposalCase> {
 protected:
  void SetUp() override {
    OSPREY_NEEDS_FIXTURE(fixture("detectron2") / model().name)
    OSPREY_NEEDS_DEVICE(GetParam().device)
  }
  static const ModelCase& model() { return GetParam().model; }
  static CaseEngine build() { return CaseEngine(model(), {.device = GetParam().device}); }
  static Engine open(const CaseEngine& built) { return Engine(built.file(), {.tuning = quick_tuning()}); }
  static GoldenArrays golden() { return GoldenArrays(fixture("detectron2") / model().name / "golden.npz"); }
};

TEST_P(FastRcnn, FindsTheGoldenDetectionsInTheGoldenProposals) {
  const CaseEngine built = build();
  const Image photo = read_image(fixture("images") / model().photo);
  Session session(open(built));
  const Detections found = session.detect_in(photo, shuffled(in_photo(golden(), photo)));
  expect_detections(found, golden_detections(golden()));
}

class FastRcnnSession : public FastRcnn {};

TEST_P(FastRcnnSession, TakesTheProposalsOfEachPhoto) {
  const CaseEngine built = build();
  const Engine engine = open(built);
  EXPECT_TRUE(engine.needs_proposals());
  const Image photo = read_image(fixture("images") / model().photo);
  const std::vector<Proposal> proposals = shuffled(in_photo(golden(), photo)), none;
  const std::vector<Proposal> few(proposals.begin() + 2, proposals.begin() + 52);
  Session session(engine);
  const ImageView photos[] = {photo, photo, photo};
  const std::vector<Proposal> each[] = {few, proposals, none};
  const auto together = session.detect_in(photos, each);
  ASSERT_THAT(together, SizeIs(3));
  expect_detections(together[1], golden_detections(golden()));
  EXPECT_THAT(together[2].items, testing::IsEmpty());
  const Detections alone = session.detect_in(photo, few);
  ASSERT_THAT(together[0].items, SizeIs(alone.items.size()));
  for (std::size_t i = 0; i < alone.items.size(); ++i)
    EXPECT_EQ(together[0].items[i].box, alone.items[i].box);

  EXPECT_THROW(session.detect(photo), Error);
  EXPECT_THROW(session.detect_in(photo, std::vector<Proposal>{{{0, 0, NAN, 1}, 0}}), Error);
}

const ModelCase kNarrow{.name = "mask_rcnn_narrow",
                        .photo = "chelsea.png",
                        .overrides = {{"MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"},
                                      {"MODEL.LOAD_PROPOSALS", "True"}}};
const ModelCase kZoo{.name = "faster_rcnn_R_50_FPN",
                     .photo = "chelsea.png",
                     .config = "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml"};

INSTANTIATE_TEST_SUITE_P(Cases, FastRcnn, testing::Values(ProposalCase{kNarrow}, ProposalCase{kZoo}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, FastRcnn,
                         testing::Values(ProposalCase{kNarrow, "cuda"}, ProposalCase{kZoo, "cuda"}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Cases, FastRcnnSession, testing::Values(ProposalCase{kNarrow}), case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, FastRcnnSession, testing::Values(ProposalCase{kNarrow, "cuda"}), case_name);

}  // namespace
}  // namespace osprey
