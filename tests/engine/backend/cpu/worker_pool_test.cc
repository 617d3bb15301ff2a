#include "engine/backend/cpu/worker_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

namespace latentd {
namespace {

TEST(WorkerPool, ComputesEveryItemOnceAndShowsTheResultsToTheCaller) {
  for (const int threads : {1, 2, 3, 5}) {
    SCOPED_TRACE(threads);
    WorkerPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int items : {0, 1, 2, 7, 1000}) {
      // Plain ints: a second visit or a missing barrier would be a race that TSan reports.
      std::vector<int> visits(static_cast<std::size_t>(items), 0);
      pool.parallel_for(items, [&](int item, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++visits[static_cast<std::size_t>(item)];
      });
      EXPECT_EQ(std::count(visits.begin(), visits.end(), 1), items);
    }
  }
}

TEST(WorkerPool, RunsManyShortJobsOneAfterTheOther) {
  WorkerPool pool(3);
  std::vector<long> sums(3, 0);
  for (int job = 0; job < 2000; ++job) {
    pool.parallel_for(
        5, [&](int item, int worker) { sums[static_cast<std::size_t>(worker)] += item + job; });
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0L), 2000L * 10 + 5L * 1999 * 2000 / 2);
}

TEST(WorkerPool, WorkersRunAtTheSameTime) {
  WorkerPool pool(3);
  std::atomic<int> inside{0};
  // Each item waits until all three are being computed: with fewer threads this would not end.
  pool.parallel_for(3, [&](int /*item*/, int /*worker*/) {
    inside.fetch_add(1);
    while (inside.load() < 3) std::this_thread::yield();
  });
  EXPECT_EQ(inside.load(), 3);
}

TEST(WorkerPool, EndsWithoutEverHavingWorked) { const WorkerPool pool(4); }

TEST(UsableCpuCount, IsAtMostTheAffinityMask) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_GE(usable_cpu_count(), 1);
  EXPECT_LE(usable_cpu_count(), CPU_COUNT(&set));
}

}  // namespace
}  // namespace latentd
