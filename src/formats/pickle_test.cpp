#include "formats/pickle.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/numpy_pickle.h"
#include "formats/source.h"

namespace osprey::pickle {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

// The root of a pickle whose bytes the caller keeps.
struct Read {
  explicit Read(std::string text)
      : bytes(std::move(text)), parsed(parse(as_bytes(bytes), Persistent::kRefused)) {}
  const Value& root() const { return *parsed.root; }
  std::string bytes;
  Parsed parsed;
};

std::string refusal(const std::string& bytes) {
  try {
    parse(as_bytes(bytes), Persistent::kRefused);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "no error";
}

TEST(Pickle, NumbersOfEveryOpcode) {
  EXPECT_EQ(Read("I-7\n.").root().integer, -7);
  EXPECT_EQ(Read("L123456789012L\n.").root().integer, 123456789012);
  EXPECT_EQ(Read("\x80\x02J\xff\xff\xff\xff.").root().integer, -1);
  EXPECT_EQ(Read("\x80\x02\x8a\x02\x00\xff."s).root().integer, -256);
  EXPECT_EQ(Read("\x80\x02\x8a\x00."s).root().integer, 0);
  EXPECT_EQ(Read("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.").root().kind, Kind::kLong);
  EXPECT_EQ(Read("F2.5\n.").root().real, 2.5);
  EXPECT_EQ(Read("G\x3f\xf8\0\0\0\0\0\0."s).root().real, 1.5);
  EXPECT_EQ(Read("I01\n.").root().kind, Kind::kBool);
}

TEST(Pickle, TextInEverySpelling) {
  EXPECT_EQ(text_of(Read("S'a\\'\\x41\\n'\n.").root()), "a'A\n");
  EXPECT_EQ(text_of(Read("Va\\u00e4\n.").root()), "a\xc3\xa4");
  EXPECT_EQ(text_of(Read("U\x02\xe4z.").root()), "\xc3\xa4z");  // Python 2's str, as latin-1
  EXPECT_EQ(text_of(Read("\x8c\x02\xc3\xa4.").root()), "\xc3\xa4");
  EXPECT_THROW(text_of(Read("\x8c\x02\xc3\x28.").root()), Error);      // no UTF-8
  EXPECT_THROW(text_of(Read("\x8c\x03\xed\xa0\x80.").root()), Error);  // half a surrogate pair
}

TEST(Pickle, BytesAsLatin1TextAreDecodedOnlyWhenAsked) {
  const Read read(
      "\x80\x02"
      "c_codecs\nencode\nX\x04\0\0\0a\xc3\xbf"
      "bX\x06\0\0\0latin1\x86R."s);
  EXPECT_EQ(read.root().kind, Kind::kBytes);
  ASSERT_EQ(decoded_size(read.root().text), 3u);
  std::string out(3, ' ');
  decode_bytes(read.root().text, reinterpret_cast<std::byte*>(out.data()));
  EXPECT_EQ(out,
            "a\xff"
            "b");
}

TEST(Pickle, ContainersAndMemo) {
  const Read dict(
      "\x80\x02}q\x00(U\x01"
      "aK\x01U\x01"
      "b]q\x01(K\x02h\x00"
      "eu."s);
  ASSERT_EQ(dict.root().items.size(), 4u);
  EXPECT_EQ(dict.root().items[3]->items[1], &dict.root());  // the list holds the dict that holds it
  const Read ordered(
      "ccollections\nOrderedDict\n(](](U\x01"
      "aK\x01"
      "eetR.");
  ASSERT_EQ(ordered.root().kind, Kind::kDict);
  EXPECT_EQ(ordered.root().items.size(), 2u);
}

TEST(Pickle, CodeIsRefusedByName) {
  const auto victim = std::filesystem::temp_directory_path() / "osprey_pickle_ran_code";
  std::filesystem::remove(victim);
  const std::string bytes = "cposix\nsystem\n(S'touch " + victim.string() + "'\ntR.";
  const Source source{.name = "evil.pkl", .bytes = as_bytes(bytes)};
  try {
    read_numpy_pickle(source);
    FAIL() << "a pickle that runs a command was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    EXPECT_THAT(e.what(), HasSubstr("evil.pkl"));
    EXPECT_THAT(e.what(), HasSubstr("posix.system"));
    EXPECT_THAT(e.what(), HasSubstr("never runs code from a file"));
  }
  EXPECT_FALSE(std::filesystem::exists(victim));
}

TEST(Pickle, CodeIsRefusedHoweverItIsSpelled) {
  EXPECT_THAT(refusal("\x80\x04\x8c\x05posix\x8c\x06system\x93."), HasSubstr("posix.system"));
  EXPECT_THAT(refusal("(S'x'\nios\nsystem\n."), HasSubstr("os.system"));
  EXPECT_THAT(refusal("c__builtin__\neval\n."), HasSubstr("__builtin__.eval"));
  EXPECT_THAT(refusal("cnumpy\ncore.multiarray._reconstruct.__globals__\n."), HasSubstr("__globals__"));
  EXPECT_THAT(refusal("ctorch.hub\nload\n."), HasSubstr("torch.hub.load"));
  EXPECT_THAT(refusal("c\x1b[2J\nx\n."), HasSubstr("\\x1b[2J.x"));  // nothing reaches a terminal raw
}

TEST(Pickle, ClaimsAreCheckedBeforeTheyAreBelieved) {
  EXPECT_THAT(refusal("\x80\x02\x8b\xff\xff\xff\x7f."), HasSubstr("truncated"));
  EXPECT_THAT(refusal("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."), HasSubstr("truncated"));
  EXPECT_THAT(refusal("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff."), HasSubstr("frame"));
  EXPECT_THAT(refusal("\x80\x02j\xff\xff\xff\xff."), HasSubstr("before it is made"));
  EXPECT_THAT(refusal("\x80\x02"
                      "a."),
              HasSubstr("empty stack"));
  EXPECT_THAT(refusal("\x80\x02K\x01(0"
                      "0."),
              HasSubstr("empty stack"));
  EXPECT_THAT(refusal("\x80\x02K\x01"), HasSubstr("truncated"));
  EXPECT_THAT(refusal("\x80\x06N."), HasSubstr("protocol 6"));
  EXPECT_THAT(refusal("\x80\x02}K\x01Q."), HasSubstr("outside itself"));
  // Memo indices are names, not sizes.
  EXPECT_EQ(Read("\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xff.").root().kind, Kind::kList);
}

TEST(Pickle, FloodsOfValuesEnd) {
  EXPECT_THAT(refusal("\x80\x02" + std::string(3'000'000, 'N') + "."), HasSubstr("on the stack"));
  std::string pairs;
  for (int i = 0; i < 2'100'000; ++i) pairs += "N0";
  EXPECT_THAT(refusal("\x80\x02" + pairs + "N."), HasSubstr("more than 2000000 values"));
}

}  // namespace
}  // namespace osprey::pickle
