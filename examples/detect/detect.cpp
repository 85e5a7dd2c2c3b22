// Detects in one photo and draws what it found: `detect ENGINE PHOTO PICTURE`.
#include <cstdio>

#include <osprey/osprey.h>

int main(int argc, char** argv) try {
  if (argc != 4) return std::fprintf(stderr, "usage: detect ENGINE PHOTO PICTURE\n"), 2;
  const osprey::Engine engine(argv[1]);
  osprey::Session session(engine);
  const osprey::Image photo = osprey::read_image(argv[2]);
  const osprey::Detections found = session.detect(photo);
  for (const osprey::Detection& d : found.items)
    std::printf("%-16s %.3f  %.1f %.1f %.1f %.1f\n",
                engine.labels()[static_cast<std::size_t>(d.class_index)].c_str(), d.score, d.box.x0, d.box.y0,
                d.box.x1, d.box.y1);
  osprey::write_image(argv[3], osprey::draw_detections(photo, found, engine.labels()));
  return 0;
} catch (const osprey::Error& e) {
  return std::fprintf(stderr, "%s\n", e.what()), static_cast<int>(e.code());
}
