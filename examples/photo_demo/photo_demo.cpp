// From a checkpoint to a drawn picture: `photo_demo CHECKPOINT CONFIG PHOTO PICTURE [heatmaps]`.
#include <cstdio>

#include <osprey/osprey.h>

int main(int argc, char** argv) try {
  if (argc != 5 && argc != 6)
    return std::fprintf(stderr, "usage: photo_demo CHECKPOINT CONFIG PHOTO PICTURE [heatmaps]\n"), 2;
  osprey::PhotoDemo demo({.source = argv[1], .config = argv[2]},
                         {.confidence_threshold = 0.5f, .show_mask_heatmaps = argc == 6});
  osprey::write_image(argv[4], demo.run_on_image(osprey::read_image(argv[3])));
  return 0;
} catch (const osprey::Error& e) {
  return std::fprintf(stderr, "%s\n", e.what()), static_cast<int>(e.code());
}
