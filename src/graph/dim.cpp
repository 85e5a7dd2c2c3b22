#include "graph/dim.h"

#include <charconv>
#include <numeric>

#include "core/error.h"

namespace osprey {
namespace {

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return q - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

// Extents may come from a file: what leaves 64 bits is refused.
std::int64_t checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  require(!__builtin_add_overflow(a, b, &out), "extent: {} + {} overflows", a, b);
  return out;
}
std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  require(!__builtin_mul_overflow(a, b, &out), "extent: {} x {} overflows", a, b);
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::int64_t parse_int(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(), "extent: '{}' is no whole number", text);
  return value;
}

bool starts_number(std::string_view text) {
  return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

// "32*h", "h", "64"
Dim parse_term(std::string_view text) {
  text = trim(text);
  require(!text.empty(), "extent: a term is missing");
  const auto star = text.find('*');
  if (star != std::string_view::npos)
    return Dim::symbol(std::string(text.substr(star + 1))) * parse_int(text.substr(0, star));
  return starts_number(text) ? Dim(parse_int(text)) : Dim::symbol(std::string(text));
}

// A term and what is added to it.
Dim parse_sum(std::string_view text) {
  text = trim(text);
  const auto sign = text.find_first_of("+-", 1);
  if (sign == std::string_view::npos) return parse_term(text);
  const std::int64_t n = parse_int(text.substr(sign + 1));
  return parse_term(text.substr(0, sign)) + (text[sign] == '+' ? n : checked_mul(n, -1));
}

}  // namespace

Dim Dim::symbol(std::string name) {
  Dim out;
  out.symbol_ = std::move(name);
  out.mul_ = 1;
  return out;
}

Dim Dim::at_most(Dim bound) {
  if (bound.kind_ == Kind::kExact) bound.kind_ = Kind::kAtMost;
  return bound;
}

Dim Dim::unknown() {
  Dim out;
  out.kind_ = Kind::kUnknown;
  return out;
}

std::int64_t Dim::constant() const {
  check(is_constant(), "extent: {} is no constant", to_string(*this));
  return add_;
}

std::int64_t Dim::evaluate(const DimBindings& bindings) const {
  check(kind_ != Kind::kUnknown, "extent: a data-dependent extent has no bound");
  if (symbol_.empty()) return add_;
  const auto it = bindings.find(symbol_);
  check(it != bindings.end(), "extent: symbol '{}' is not bound", symbol_);
  return floor_divide(checked_add(checked_mul(mul_, it->second), add_), div_);
}

Dim Dim::operator+(std::int64_t n) const {
  if (kind_ == Kind::kUnknown) return *this;
  Dim out = *this;
  out.add_ = checked_add(out.add_, checked_mul(n, div_));
  out.normalise();
  return out;
}

Dim Dim::operator*(std::int64_t n) const {
  if (kind_ == Kind::kUnknown || n == 1) return *this;
  check(div_ == 1, "extent: {} times {} is no single expression (pad the image to a larger multiple)",
        to_string(*this), n);
  Dim out = *this;
  out.mul_ = checked_mul(mul_, n);
  out.add_ = checked_mul(add_, n);
  out.normalise();
  return out;
}

Dim Dim::floor_div(std::int64_t n) const {
  if (kind_ == Kind::kUnknown) return *this;
  check(n > 0, "extent: division by {}", n);
  Dim out = *this;
  out.div_ = checked_mul(div_, n);
  out.normalise();
  return out;
}

// floor((a s + b) / c) with g = gcd(a, c) is floor((a/g s + floor(b/g)) / (c/g)), as g divides a s.
void Dim::normalise() {
  if (mul_ == 0) symbol_.clear();
  const std::int64_t g = symbol_.empty() ? div_ : std::gcd(mul_, div_);
  mul_ /= g;
  add_ = floor_divide(add_, g);
  div_ /= g;
}

std::string to_string(const Dim& dim) {
  if (dim.kind_ == Dim::Kind::kUnknown) return "?";
  std::string text = dim.symbol_.empty() ? std::to_string(dim.add_)
                     : dim.mul_ == 1     ? dim.symbol_
                                         : fmt::format("{}*{}", dim.mul_, dim.symbol_);
  if (!dim.symbol_.empty() && dim.add_ != 0) text += fmt::format("{:+d}", dim.add_);
  if (dim.div_ != 1) text = fmt::format("({})/{}", text, dim.div_);
  return dim.kind_ == Dim::Kind::kAtMost ? "<=" + text : text;
}

Dim parse_dim(std::string_view text) {
  text = trim(text);
  if (text == "?") return Dim::unknown();
  if (text.starts_with("<=")) return Dim::at_most(parse_dim(text.substr(2)));
  if (!text.starts_with("(")) return parse_sum(text);
  const auto close = text.rfind(")/");
  require(close != std::string_view::npos, "extent: '{}' has no ')/'", text);
  return parse_sum(text.substr(1, close - 1)).floor_div(parse_int(text.substr(close + 2)));
}

std::string to_string(const TensorType& type) {
  std::string text(name_of(type.dtype));
  text += '[';
  for (std::size_t i = 0; i < type.dims.size(); ++i) text += (i ? "," : "") + to_string(type.dims[i]);
  return text + ']';
}

Shape constant_shape(const TensorType& type) {
  Shape out;
  for (const Dim& d : type.dims) out.push_back(d.constant());
  return out;
}

TensorType parse_type(std::string_view text) {
  text = trim(text);
  const auto open = text.find('[');
  require(open != std::string_view::npos && text.ends_with(']'), "type: '{}' is not like f32[N,3,32*h,32*w]",
          text);
  const auto dtype = dtype_from_name(text.substr(0, open));
  require(dtype.has_value(), "type: '{}' names no element type", text);
  TensorType out{*dtype, {}};
  std::string_view dims = text.substr(open + 1, text.size() - open - 2);
  while (!trim(dims).empty()) {
    const auto comma = dims.find(',');
    out.dims.push_back(parse_dim(dims.substr(0, comma)));
    dims = comma == std::string_view::npos ? std::string_view{} : dims.substr(comma + 1);
  }
  return out;
}

}  // namespace osprey
