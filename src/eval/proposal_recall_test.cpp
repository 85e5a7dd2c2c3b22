#include "eval/proposal_recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace osprey {
namespace {

CocoAnnotation object(std::int64_t image, XywhBox box, bool crowd = false) {
  return {.image_id = image, .category_id = 1, .area = box[2] * box[3], .crowd = crowd, .box = box};
}
CocoResult proposal(std::int64_t image, double score, XywhBox box) {
  return {.image_id = image, .score = score, .box = box};
}

double value(const std::vector<ProposalRecall>& all, const std::string& name) {
  for (const ProposalRecall& r : all)
    if (r.name == name) return r.value;
  return -2;
}

TEST(ProposalRecall, CountsObjectsCoveredAtEachThreshold) {
  CocoAnnotations truth;
  truth.images = {{1, "a.png", 500, 500}};
  truth.annotations = {object(1, {0, 0, 100, 100}), object(1, {200, 200, 20, 20}),
                       object(1, {300, 0, 50, 100}), object(1, {0, 300, 90, 90}, /*crowd=*/true)};
  CocoResults found;
  found.entries = {proposal(1, -3, {0, 0, 100, 100}),      // the whole object: counts at all ten thresholds
                   proposal(1, 2, {0, 0, 100, 80}),        // taken by nobody: the object has a better one
                   proposal(1, 1, {200, 200, 20, 11.8})};  // IoU 0.59: at 0.5 and 0.55
  const auto all = proposal_recall(truth, found);
  EXPECT_NEAR(value(all, "AR@100"), 100 * (1 + 0.2 + 0) / 3, 1e-9);
  EXPECT_NEAR(value(all, "ARs@100"), 20, 1e-9);
  EXPECT_NEAR(value(all, "ARm@1000"), 0, 1e-9);
  EXPECT_NEAR(value(all, "ARl@1000"), 100, 1e-9);
}

TEST(ProposalRecall, OnlyTheBestOfEachImageAreLookedAt) {
  CocoAnnotations truth;
  truth.images = {{1, "a.png", 500, 500}, {2, "b.png", 500, 500}};
  truth.annotations = {object(1, {0, 0, 10, 10}), object(2, {0, 0, 10, 10})};
  CocoResults found;
  for (int i = 0; i < 100; ++i) found.entries.push_back(proposal(1, i, {100, 100, 10, 10}));
  found.entries.push_back(proposal(1, -1, {0, 0, 10, 10}));
  const auto all = proposal_recall(truth, found);
  EXPECT_NEAR(value(all, "AR@100"), 0, 1e-9);
  EXPECT_NEAR(value(all, "AR@1000"), 100, 1e-9);  // the image without proposals does not count
  EXPECT_EQ(value(all, "ARm@100"), -1);
}

// One proposal covers one object, and the best pair goes first.
TEST(ProposalRecall, EachProposalIsTakenOnce) {
  CocoAnnotations truth;
  truth.images = {{1, "a.png", 500, 500}};
  truth.annotations = {object(1, {0, 0, 100, 90}), object(1, {0, 0, 100, 100})};
  CocoResults found;
  found.entries = {proposal(1, 1, {0, 0, 100, 100})};
  EXPECT_NEAR(value(proposal_recall(truth, found), "AR@100"), 50, 1e-9);
}

}  // namespace
}  // namespace osprey
