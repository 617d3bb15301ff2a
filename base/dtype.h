// Element types of tensors, named as in safetensors and the published config files.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace latentd {

enum class DType : std::uint8_t { kF32, kBF16, kF16, kF8E4M3, kI64, kI32, kU8 };

// Bytes of one element.
constexpr std::size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "fp32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "fp16";
    case DType::kF8E4M3:
      return "fp8";
    case DType::kI64:
      return "int64";
    case DType::kI32:
      return "int32";
    case DType::kU8:
      return "uint8";
  }
  return "unknown";
}

// bfloat16: the upper half of an fp32. Conversion to it rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits;
};

constexpr float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

constexpr BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {  // NaN: keep it one by setting a mantissa bit
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

// E4M3 of the OCP 8-bit floating point specification: sign, 4 bits of exponent (bias 7), 3 of
// mantissa; the largest value is 448, the smallest 2^-9, there is no infinity, and NaN is
// S.1111.111.
struct Float8E4M3 {
  std::uint8_t bits;
};

inline constexpr float kFloat8E4M3Max = 448.0F;

constexpr float to_float(Float8E4M3 value) {
  const std::uint32_t sign = (value.bits & 0x80U) << 24;
  const std::uint32_t magnitude = value.bits & 0x7fU;
  if (magnitude == 0x7fU) return std::bit_cast<float>(sign | 0x7fc00000U);
  // Shifted into place, the fields are those of an fp32 (normal or not) 2^120 times smaller.
  constexpr float kRebias = 0x1p120F;
  return std::bit_cast<float>(sign | (magnitude << 20)) * kRebias;
}

// Rounds to nearest even; what is beyond 448, infinity included, becomes 448; NaN stays NaN.
constexpr Float8E4M3 to_float8_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const auto signed_code = [sign](std::uint32_t code) {
    return Float8E4M3{static_cast<std::uint8_t>(sign | code)};
  };
  if (magnitude > 0x7f800000U) return signed_code(0x7fU);
  if (magnitude >= std::bit_cast<std::uint32_t>(kFloat8E4M3Max)) return signed_code(0x7eU);
  constexpr float kSmallestNormal = 0x1p-6F;
  if (magnitude < std::bit_cast<std::uint32_t>(kSmallestNormal)) {
    constexpr float kUnit = 0x1p14F;  // an fp32 there counts in steps of 2^-9, as subnormals do
    return signed_code(std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + kUnit) -
                       std::bit_cast<std::uint32_t>(kUnit));
  }
  constexpr std::uint32_t kRebias = 120U << 23;
  return signed_code((magnitude - kRebias + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20);
}

}  // namespace latentd
