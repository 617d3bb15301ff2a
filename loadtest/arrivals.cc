#include "loadtest/arrivals.h"

#include <array>
#include <string>
#include <utility>

namespace latentd::loadtest {
namespace {

constexpr std::array<std::pair<std::string_view, Process>, 5> kNames = {{
    {"poisson", Process::kPoisson},
    {"gamma", Process::kGamma},
    {"constant", Process::kConstant},
    {"closed", Process::kClosed},
    {"trace", Process::kTrace},
}};

}  // namespace

Result<Process> parse_process(std::string_view name) {
  for (const auto& [known, process] : kNames) {
    if (known == name) return process;
  }
  return invalid_argument("process", "must be poisson, gamma, constant, closed or trace, got '" +
                                         std::string(name) + "'");
}

std::string_view process_name(Process process) {
  for (const auto& [name, known] : kNames) {
    if (known == process) return name;
  }
  return "";
}

ArrivalProcess::ArrivalProcess(Process process, double rate, double cv, std::uint64_t seed)
    : process_(process), mean_gap_(1.0 / rate), shape_(1.0 / (cv * cv)), random_(seed) {}

double ArrivalProcess::gap() {
  switch (process_) {
    case Process::kPoisson:
      return random_.exponential() * mean_gap_;
    case Process::kGamma:
      return random_.gamma(shape_) / shape_ * mean_gap_;
    default:
      return mean_gap_;
  }
}

double ArrivalProcess::next() {
  now_ += gap();
  return now_;
}

}  // namespace latentd::loadtest
