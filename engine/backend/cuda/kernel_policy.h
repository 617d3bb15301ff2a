// Which kernels run on a card: a function of its compute capability, its shared memory and the
// architectures that this build was compiled for.
//
// Code for X.Y runs on X.Z with Z >= Y. Code for Hopper's own instructions ("90a": warp-group
// products, the copy engine) runs on 9.0 alone; compiled for anything else those kernels are empty.
// No build holds code that the driver would have to compile first.
//
// Contract: plain host code, pure functions, no device needed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace latentd::cuda {

struct Capability {
  int major = 0;
  int minor = 0;
};

struct KernelChoice {
  bool any = false;           // the build holds code for the card
  bool tensor_cores = false;  // bf16 products in stages of shared memory
  bool warp_group = false;    // Hopper's own kernels
};

// Of one block: the kernels on tensor cores keep their stages in it. Cards of 8.x have less, and
// take the portable kernels.
inline constexpr std::size_t kStageBytes = std::size_t{192} << 10;

// Whether code for `architecture` ("80", "90a") runs on `card`.
constexpr bool runs_on(std::string_view architecture, Capability card) {
  int number = 0;
  std::size_t digits = 0;
  for (; digits < architecture.size() && architecture[digits] >= '0' && architecture[digits] <= '9';
       ++digits) {
    number = number * 10 + (architecture[digits] - '0');
  }
  if (digits == 0 || number / 10 != card.major) return false;
  const bool exact = architecture.substr(digits) == "a";
  return exact ? number % 10 == card.minor : number % 10 <= card.minor;
}

// `architectures`: those of the build, separated by commas.
constexpr KernelChoice choose_kernels(std::string_view architectures, Capability card,
                                      std::size_t shared_bytes_of_block) {
  KernelChoice choice;
  bool hopper = false;
  while (!architectures.empty()) {
    const std::size_t comma = architectures.find(',');
    const std::string_view one = architectures.substr(0, comma);
    choice.any = choice.any || runs_on(one, card);
    hopper = hopper || (one == "90a" && runs_on(one, card));
    architectures.remove_prefix(comma == std::string_view::npos ? architectures.size() : comma + 1);
  }
  choice.tensor_cores = choice.any && card.major >= 8 && shared_bytes_of_block >= kStageBytes;
  choice.warp_group = hopper && choice.tensor_cores;
  return choice;
}

// Why a card is refused that the build holds no code for.
inline std::string no_code_message(std::string_view architectures, std::string_view card_name,
                                   Capability card) {
  const std::string capability = std::to_string(card.major) + "." + std::to_string(card.minor);
  return std::string(card_name) + " has compute capability " + capability +
         ", and this build holds code for sm_" + std::string(architectures) +
         " only: build it with -DLATENTD_CUDA_ARCHITECTURES=" + std::to_string(card.major) +
         std::to_string(card.minor) + ", or use --device cpu";
}

}  // namespace latentd::cuda
