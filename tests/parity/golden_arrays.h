// The arrays of a golden.npz by name, widened to double or cut into strings.
#pragma once

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/checkpoint.h"
#include "formats/zip.h"

namespace osprey {

class GoldenArrays {
 public:
  explicit GoldenArrays(const std::filesystem::path& file) : file_(file) {
    for (const auto& tensor : read_checkpoint(file).tensors) tensors_[tensor.name] = tensor;
  }

  bool has(const std::string& name) const { return tensors_.contains(name); }
  // Names of the arrays, a sampled one's three being one.
  std::vector<std::string> stage_names() const {
    std::vector<std::string> out;
    for (const auto& [name, tensor] : tensors_) {
      if (name.ends_with("__shape") || name.ends_with("__stride")) continue;
      out.push_back(name.ends_with("__sample") ? name.substr(0, name.size() - 8) : name);
    }
    return out;
  }
  Tensor tensor(const std::string& name) const {
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) throw std::runtime_error("golden.npz has no array " + name);
    return at->second.load();
  }
  std::vector<double> doubles(const std::string& name) const {
    const Tensor t = tensor(name);
    switch (t.dtype()) {
      case DType::kF64:
        return widened<double>(t);
      case DType::kF32:
        return widened<float>(t);
      case DType::kI64:
        return widened<std::int64_t>(t);
      case DType::kU8:
        return widened<std::uint8_t>(t);
      default:
        throw std::runtime_error(name + " has an element type this test does not read");
    }
  }
  // An array of byte strings (numpy's |S<n>), which are no tensor.
  std::vector<std::string> strings(const std::string& name) const {
    const ZipArchive zip(open_source(file_));
    const ZipEntry* entry = zip.find(name + ".npy");
    if (entry == nullptr) throw std::runtime_error("golden.npz has no array " + name);
    const ZipData data = zip.read(*entry, std::uint64_t{1} << 30);
    const std::string_view text = as_text(data.bytes);
    const std::size_t header =
        static_cast<unsigned char>(text[8]) + 256u * static_cast<unsigned char>(text[9]);
    const std::size_t type = text.find("|S");
    const std::size_t size = std::stoul(std::string(text.substr(type + 2, 12)));
    std::vector<std::string> out;
    for (std::size_t at = 10 + header; at + size <= text.size(); at += size) {
      const auto item = text.substr(at, size);
      out.emplace_back(item.substr(0, item.find('\0')));
    }
    return out;
  }

 private:
  template <class T>
  static std::vector<double> widened(const Tensor& t) {
    std::vector<double> out;
    for (std::size_t i = 0; i < t.bytes().size(); i += sizeof(T)) {
      T value;
      std::memcpy(&value, t.bytes().data() + i, sizeof(T));
      out.push_back(static_cast<double>(value));
    }
    return out;
  }

  std::filesystem::path file_;
  std::map<std::string, NamedTensor> tensors_;
};

inline void expect_all_near(const std::vector<double>& got, const std::vector<double>& wanted,
                            double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(wanted[i]) && std::isnan(got[i])) continue;
    ASSERT_NEAR(got[i], wanted[i], tolerance) << what << "[" << i << "]";
  }
}

}  // namespace osprey
