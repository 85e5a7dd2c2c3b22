// Class names of the data sets that frameworks' configs refer to by name, in the order of their class
// indices.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/model.h"

namespace osprey {

std::vector<Category> coco_categories();               // 80, with COCO's ids (1..90 with gaps)
std::vector<Category> coco_90_categories();            // all ids of COCO, 1..90
std::vector<Category> person_category();               // COCO keypoints
std::vector<Category> voc_categories();                // 20, alphabetical
std::vector<Category> cityscapes_categories();         // the 8 with instances
std::vector<Category> numbered_categories(int count);  // "class 0", ...

// Those of the data set that a config names ("coco_2017_train", "voc_2007_test") where the count fits, which
// it does not when somebody trained on their own data and left the config's data set as it was: then
// numbered.
std::vector<Category> categories_of_dataset(std::string_view dataset, int count);

}  // namespace osprey
