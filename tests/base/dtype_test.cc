#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace latentd {
namespace {

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(to_bfloat16(1.0F).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.00390625F).bits, 0x3f80);  // halfway, even below
  EXPECT_EQ(to_bfloat16(1.01171875F).bits, 0x3f82);  // halfway, even above
  EXPECT_EQ(to_bfloat16(-2.5F).bits, 0xc020);
}

TEST(BFloat16, KeepsWhatItCanHold) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 value{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(to_bfloat16(wide))));
    } else {
      EXPECT_EQ(to_bfloat16(wide).bits, value.bits);
    }
  }
}

TEST(BFloat16, KeepsInfinityAndNaN) {
  EXPECT_TRUE(std::isinf(to_float(to_bfloat16(std::numeric_limits<float>::infinity()))));
  EXPECT_TRUE(std::isinf(to_float(to_bfloat16(std::numeric_limits<float>::max()))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001U)))));
}

// The value of a code by the text of the specification.
double value_of(int code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

bool is_nan_code(int code) { return (code & 0x7f) == 0x7f; }

std::uint8_t code_of(double value) { return to_float8_e4m3(static_cast<float>(value)).bits; }

TEST(Float8E4M3, KeepsEveryCode) {
  for (int code = 0; code < 256; ++code) {
    const float wide = to_float(Float8E4M3{static_cast<std::uint8_t>(code)});
    if (is_nan_code(code)) {
      EXPECT_TRUE(std::isnan(wide)) << code;
    } else {
      EXPECT_EQ(static_cast<double>(wide), value_of(code)) << code;
    }
    EXPECT_EQ(to_float8_e4m3(wide).bits, code);
  }
}

TEST(Float8E4M3, RoundsToTheNearestCodeAndHalvesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const double low = value_of(code);
    const double high = value_of(code + 1);
    const double half = (low + high) / 2;
    const float middle = static_cast<float>(half);  // exact
    EXPECT_EQ(code_of(half), code % 2 == 0 ? code : code + 1) << code;
    EXPECT_EQ(to_float8_e4m3(std::nextafter(middle, 0.0F)).bits, code);
    EXPECT_EQ(to_float8_e4m3(std::nextafter(middle, 1e9F)).bits, code + 1);
    EXPECT_EQ(to_float8_e4m3(-std::nextafter(middle, 1e9F)).bits, 0x80 | (code + 1));
  }
}

TEST(Float8E4M3, EndsAt448AndKeepsNaN) {
  for (const double value : {448.0, 449.0, 463.9, 464.0, 480.0, 1e30}) {
    EXPECT_EQ(code_of(value), 0x7e) << value;
    EXPECT_EQ(code_of(-value), 0xfe) << value;
  }
  EXPECT_EQ(to_float8_e4m3(std::numeric_limits<float>::infinity()).bits, 0x7e);
  EXPECT_EQ(to_float8_e4m3(std::numeric_limits<float>::quiet_NaN()).bits, 0x7f);
  EXPECT_EQ(to_float8_e4m3(std::bit_cast<float>(0xff800001U)).bits, 0xff);
  EXPECT_EQ(to_float8_e4m3(std::numeric_limits<float>::denorm_min()).bits, 0);
  EXPECT_EQ(to_float8_e4m3(-0.0F).bits, 0x80);
}

}  // namespace
}  // namespace latentd
