#include "base/mailbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace latentd {
namespace {

TEST(Mailbox, KeepsTheOrderAndRefusesWhatDoesNotFit) {
  Mailbox<int> box(2);
  EXPECT_TRUE(box.try_push(1));
  EXPECT_TRUE(box.try_push(2));
  EXPECT_FALSE(box.try_push(3));
  std::vector<int> out;
  box.drain(out);
  EXPECT_EQ(out, (std::vector<int>{1, 2}));
  EXPECT_TRUE(box.try_push(4));
}

TEST(Mailbox, LeavesARefusedItemWithItsSender) {
  Mailbox<std::unique_ptr<int>> box(0);
  auto item = std::make_unique<int>(7);
  EXPECT_FALSE(box.try_push(std::move(item)));
  ASSERT_NE(item, nullptr);
  EXPECT_EQ(*item, 7);
}

TEST(Mailbox, NeverCountsUrgentItemsAgainstTheBound) {
  Mailbox<int> box(1);
  EXPECT_TRUE(box.push_always(1));
  EXPECT_TRUE(box.push_always(2));
  EXPECT_TRUE(box.try_push(3));
  EXPECT_FALSE(box.try_push(4));
  EXPECT_TRUE(box.push_always(5));
}

TEST(Mailbox, CanBeDrainedAfterItIsClosed) {
  Mailbox<int> box(4);
  EXPECT_TRUE(box.try_push(1));
  box.close();
  EXPECT_FALSE(box.try_push(2));
  EXPECT_FALSE(box.push_always(3));
  std::vector<int> out;
  box.wait_drain(out);
  EXPECT_EQ(out, std::vector<int>{1});
  box.wait_drain(out);
  EXPECT_TRUE(out.empty());
}

TEST(Mailbox, StopsWaitingAtTheDeadline) {
  Mailbox<int> box(4);
  std::vector<int> out;
  box.wait_drain(out, steady_now());
  EXPECT_TRUE(out.empty());
}

TEST(Mailbox, BringsAllItemsOfManyProducersOnce) {
  constexpr int kProducers = 4;
  constexpr int kItems = 2'000;
  Mailbox<int> box(kProducers * kItems);
  std::vector<std::thread> producers;
  for (int producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&box, producer] {
      for (int item = 0; item < kItems; ++item) EXPECT_TRUE(box.try_push(producer * kItems + item));
    });
  }
  std::vector<bool> seen(kProducers * kItems, false);
  std::vector<int> out;
  for (int count = 0; count < kProducers * kItems; count += static_cast<int>(out.size())) {
    box.wait_drain(out);
    for (const int item : out) {
      EXPECT_FALSE(seen[static_cast<std::size_t>(item)]);
      seen[static_cast<std::size_t>(item)] = true;
    }
  }
  for (auto& producer : producers) producer.join();
}

}  // namespace
}  // namespace latentd
