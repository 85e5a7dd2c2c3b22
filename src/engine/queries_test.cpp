#include "engine/queries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace osprey {
namespace {

// An encoder's attention over as many tokens as there are queries, the selection, a layer of a decoder, and
// detections.
std::string detr(int queries, int top) {
  return fmt::format(R"(graph g
input x: f32[4*N,2]
input geometry: f32[N,6]
weight pair: f32[2,2] = 1.0 0.0 0.0 1.0
weight wide: f32[4,2] = 1.0 0.0 1.0 0.0 0.0 1.0 0.0 1.0
weight one: f32[1,2] = 1.0 1.0
qk = linear(x, wide)
memory = attention(qk, x) {{heads=1, tokens=4}}
logits = linear(memory, pair)
rows = select_queries(logits) {{top={0}, tokens=4}}
content = gather_rows(memory, rows)
qk2 = linear(content, wide)
mixed = attention(qk2, content) {{heads=1, tokens={0}}}
offsets = linear(mixed, pair)
shares = linear(mixed, one)
moves = linear(mixed, wide)
boxes = activate(moves) {{kind='sigmoid'}}
crossed = deformable_attention(memory, offsets, shares, boxes) {{heads=1, points=1, queries={0}, sizes=[2, 2]}}
answers = linear(crossed, pair)
d1, d2, d3, d4 = detect_queries(answers, boxes, geometry) {{top={1}, queries={0}}}
output d1
)",
                     queries, top);
}

Graph limited(int queries, int top, int count) {
  Graph graph = parse_graph(detr(queries, top));
  limit_queries(graph, count);
  verify(graph);
  return graph;
}

TEST(Queries, FewerAreTheGraphOfThatNumber) {
  for (const int count : {1, 2, 3, 4})
    EXPECT_EQ(to_text(limited(4, 2, count)), to_text(parse_graph(detr(count, 2)))) << count;
}

TEST(Queries, NoMoreDetectionsThanQueriesHaveClasses) {
  EXPECT_EQ(to_text(limited(4, 7, 3)), to_text(parse_graph(detr(3, 6))));
}

TEST(Queries, NamesTheBound) {
  for (const int count : {0, -1, 4}) {
    Graph graph = parse_graph(detr(3, 2));
    try {
      limit_queries(graph, count);
      ADD_FAILURE() << count;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage);
      EXPECT_THAT(e.what(), testing::HasSubstr("give 1 to 3"));
    }
  }
  Graph none = parse_graph("graph g\ninput x: f32[N,4]\ny = activate(x)\noutput y\n");
  EXPECT_THROW(limit_queries(none, 2), Error);
}

}  // namespace
}  // namespace osprey
