#include <sched.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "engine/backend/cpu/worker_pool.h"

namespace latentd {
namespace {

namespace fs = std::filesystem;

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// cgroup v2: "max 100000" or "150000 100000".
double quota_v2(const fs::path& directory) {
  std::ifstream file(directory / "cpu.max");
  std::string quota;
  double period = 0.0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0.0) return kNoLimit;
  const double value = std::strtod(quota.c_str(), nullptr);
  return value > 0.0 ? value / period : kNoLimit;
}

double quota_v1(const fs::path& directory) {
  std::ifstream quota_file(directory / "cpu.cfs_quota_us");
  std::ifstream period_file(directory / "cpu.cfs_period_us");
  double quota = 0.0;
  double period = 0.0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0.0 || period <= 0.0) {
    return kNoLimit;
  }
  return quota / period;
}

// The least quota of `path` below `root` and of all its parents up to `root`. Inside a container
// the path may not exist below the mount: its parents then still count.
double least_quota(const fs::path& root, fs::path path, double (*quota)(const fs::path&)) {
  double least = quota(root);
  for (path = path.relative_path(); !path.empty(); path = path.parent_path()) {
    least = std::min(least, quota(root / path));
  }
  return least;
}

// Lines of /proc/self/cgroup: "0::/path" (v2), "4:cpu,cpuacct:/path" (v1).
double cgroup_quota() {
  const fs::path mount = "/sys/fs/cgroup";
  double least = std::min(quota_v2(mount), quota_v1(mount / "cpu"));
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      least = std::min(least, least_quota(mount, path, quota_v2));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      least = std::min(least, least_quota(mount / "cpu", path, quota_v1));
    }
  }
  return least;
}

}  // namespace

int usable_cpu_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    count = std::max(1, CPU_COUNT(&set));
  } else {  // more processors than cpu_set_t holds
    count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  const double quota = cgroup_quota();
  if (quota < count) count = std::max(1, static_cast<int>(std::ceil(quota)));
  return count;
}

}  // namespace latentd
