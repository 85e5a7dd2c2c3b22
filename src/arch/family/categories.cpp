#include "arch/family/categories.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"

namespace osprey {
namespace {

struct Named {
  int id;
  std::string_view name;
};

constexpr Named kCoco[]{{1, "person"},         {2, "bicycle"},       {3, "car"},
                        {4, "motorcycle"},     {5, "airplane"},      {6, "bus"},
                        {7, "train"},          {8, "truck"},         {9, "boat"},
                        {10, "traffic light"}, {11, "fire hydrant"}, {13, "stop sign"},
                        {14, "parking meter"}, {15, "bench"},        {16, "bird"},
                        {17, "cat"},           {18, "dog"},          {19, "horse"},
                        {20, "sheep"},         {21, "cow"},          {22, "elephant"},
                        {23, "bear"},          {24, "zebra"},        {25, "giraffe"},
                        {27, "backpack"},      {28, "umbrella"},     {31, "handbag"},
                        {32, "tie"},           {33, "suitcase"},     {34, "frisbee"},
                        {35, "skis"},          {36, "snowboard"},    {37, "sports ball"},
                        {38, "kite"},          {39, "baseball bat"}, {40, "baseball glove"},
                        {41, "skateboard"},    {42, "surfboard"},    {43, "tennis racket"},
                        {44, "bottle"},        {46, "wine glass"},   {47, "cup"},
                        {48, "fork"},          {49, "knife"},        {50, "spoon"},
                        {51, "bowl"},          {52, "banana"},       {53, "apple"},
                        {54, "sandwich"},      {55, "orange"},       {56, "broccoli"},
                        {57, "carrot"},        {58, "hot dog"},      {59, "pizza"},
                        {60, "donut"},         {61, "cake"},         {62, "chair"},
                        {63, "couch"},         {64, "potted plant"}, {65, "bed"},
                        {67, "dining table"},  {70, "toilet"},       {72, "tv"},
                        {73, "laptop"},        {74, "mouse"},        {75, "remote"},
                        {76, "keyboard"},      {77, "cell phone"},   {78, "microwave"},
                        {79, "oven"},          {80, "toaster"},      {81, "sink"},
                        {82, "refrigerator"},  {84, "book"},         {85, "clock"},
                        {86, "vase"},          {87, "scissors"},     {88, "teddy bear"},
                        {89, "hair drier"},    {90, "toothbrush"}};

// Ids without pictures, by the names that Lin et al. (2014) give them: networks with 90 classes have them
// too, and never saw one.
constexpr Named kCocoGaps[]{{12, "street sign"}, {26, "hat"},    {29, "shoe"},   {30, "eye glasses"},
                            {45, "plate"},       {66, "mirror"}, {68, "window"}, {69, "desk"},
                            {71, "door"},        {83, "blender"}};

constexpr std::string_view kVoc[]{"aeroplane",   "bicycle", "bird",  "boat",      "bottle",
                                  "bus",         "car",     "cat",   "chair",     "cow",
                                  "diningtable", "dog",     "horse", "motorbike", "person",
                                  "pottedplant", "sheep",   "sofa",  "train",     "tvmonitor"};

constexpr std::string_view kCityscapes[]{"person", "rider", "car",        "truck",
                                         "bus",    "train", "motorcycle", "bicycle"};

std::vector<Category> by_position(const auto& names) {
  std::vector<Category> out;
  for (const std::string_view name : names)
    out.push_back({std::string(name), static_cast<int>(out.size()) + 1});
  return out;
}

}  // namespace

std::vector<Category> coco_categories() {
  std::vector<Category> out;
  for (const auto& [id, name] : kCoco) out.push_back({std::string(name), id});
  return out;
}

std::vector<Category> coco_90_categories() {
  std::vector<Category> out = coco_categories();
  for (const auto& [id, name] : kCocoGaps) out.push_back({std::string(name), id});
  std::sort(out.begin(), out.end(), [](const Category& a, const Category& b) { return a.id < b.id; });
  return out;
}

std::vector<Category> person_category() { return {{"person", 1}}; }
std::vector<Category> voc_categories() { return by_position(kVoc); }
std::vector<Category> cityscapes_categories() { return by_position(kCityscapes); }

std::vector<Category> numbered_categories(int count) {
  std::vector<Category> out;
  for (int i = 0; i < count; ++i) out.push_back({fmt::format("class {}", i), i + 1});
  return out;
}

std::vector<Category> categories_of_dataset(std::string_view dataset, int count) {
  std::vector<Category> out;
  if (dataset.starts_with("coco_")) out = coco_categories();
  if (dataset.starts_with("keypoints_coco_")) out = person_category();
  if (dataset.starts_with("voc_")) out = voc_categories();
  if (dataset.starts_with("cityscapes_")) out = cityscapes_categories();
  return static_cast<int>(out.size()) == count ? out : numbered_categories(count);
}

}  // namespace osprey
