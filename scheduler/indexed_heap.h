// IndexedHeap: a binary heap of pointers whose elements know their place, so that any of them can
// be taken out in O(log n).
//
// Contract: does not own its elements. Order(a, b): a is nearer to the top than b. `Position` is
// the member of T where the heap keeps the element's place: kNotInHeap when it is in none.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace latentd {

inline constexpr std::size_t kNotInHeap = static_cast<std::size_t>(-1);

template <typename T, std::size_t T::*Position, typename Order>
class IndexedHeap final {
 public:
  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }
  T& top() const { return *items_.front(); }
  static bool contains(const T& item) { return item.*Position != kNotInHeap; }

  void push(T& item) {
    LATENTD_CHECK(!contains(item), "the element is in the heap already");
    items_.push_back(&item);
    item.*Position = items_.size() - 1;
    rise(items_.size() - 1);
  }

  void erase(T& item) {
    const std::size_t hole = item.*Position;
    LATENTD_CHECK(hole < items_.size() && items_[hole] == &item, "the element is not in the heap");
    T* last = items_.back();
    items_.pop_back();
    item.*Position = kNotInHeap;
    if (last == &item) return;
    place(hole, *last);
    rise(hole);
    sink(last->*Position);
  }

  void check_invariants() const {
    for (std::size_t at = 0; at < items_.size(); ++at) {
      LATENTD_CHECK(items_[at]->*Position == at, "the element at {} says {}", at,
                    items_[at]->*Position);
      LATENTD_CHECK(at == 0 || !order_(*items_[at], *items_[(at - 1) / 2]),
                    "the element at {} belongs above its parent", at);
    }
  }

 private:
  void place(std::size_t at, T& item) {
    items_[at] = &item;
    item.*Position = at;
  }

  void swap(std::size_t a, std::size_t b) {
    std::swap(items_[a], items_[b]);
    items_[a]->*Position = a;
    items_[b]->*Position = b;
  }

  void rise(std::size_t at) {
    while (at > 0 && order_(*items_[at], *items_[(at - 1) / 2])) {
      swap(at, (at - 1) / 2);
      at = (at - 1) / 2;
    }
  }

  void sink(std::size_t at) {
    for (;;) {
      std::size_t first = at;
      for (std::size_t child = 2 * at + 1; child <= 2 * at + 2 && child < items_.size(); ++child) {
        if (order_(*items_[child], *items_[first])) first = child;
      }
      if (first == at) return;
      swap(at, first);
      at = first;
    }
  }

  std::vector<T*> items_;
  [[no_unique_address]] Order order_;
};

}  // namespace latentd
