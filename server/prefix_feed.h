// PrefixFeed: what the prefix cache gains and loses, on its way from the engine to subscribers.
//
//   engine thread: push -> text pool: numbered into one history -> subscribers, each at its own
//   place
//
// The history is bounded: who falls out of it has lost changes and is told so, and the engine waits
// for nobody. A subscriber begins with a whole picture of the cache. The engine is asked for one
// when the history has none (any more), so however often somebody subscribes, it draws at most one
// a history. It is watched from the first subscriber on; when nobody is left, until the last
// picture has left the history.
//
// Contract: any thread. Waking may happen while a place is being given back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace latentd {

// Pages of a batch of a picture, at most.
inline constexpr std::size_t kPictureChunkPages = 2048;

struct PrefixBatch {
  std::uint64_t sequence = 0;        // from 1, without a gap
  double unix_seconds = 0.0;         // when the engine told it
  std::uint64_t first_event_id = 0;  // of its changes, one each
  PrefixChanges news;

  // Of a batch of a picture.
  int chunk = 0;
  int num_chunks = 0;  // 0: an ordinary batch
  std::shared_ptr<const std::unordered_map<std::uint64_t, std::int64_t>> pages;  // by salt
};

class PrefixFeed final {
 public:
  using Watch = std::function<void(PrefixSink)>;  // as Engine::watch_prefixes
  using Post = std::function<void(std::function<void()>)>;

  static constexpr std::size_t kMaxSubscribers = 16;
  static constexpr std::size_t kHistoryBytes = std::size_t{64} << 20;

  // Where a subscriber stands. Owned by it, changed by `next`.
  struct Place {
    int id = 0;
    std::uint64_t next = 0;  // the number of the batch to come; 0: the first of a picture
  };

  // `post` runs a task off the engine's thread.
  explicit PrefixFeed(Post post, std::size_t history_bytes = kHistoryBytes)
      : post_(std::move(post)), history_bytes_(history_bytes) {}

  // The engine is there. REQUIRES: it calls no sink any more once the feed is destroyed.
  void set_engine(Watch watch);

  // After batch `last`, or from a picture on when it is 0. `wake` is called whenever `next` may
  // have something. kOutOfRange: what followed `last` is gone; kResourceExhausted: too many
  // subscribers; kUnavailable: closed.
  Result<Place> subscribe(std::uint64_t last, std::function<void()> wake);
  void unsubscribe(const Place& place);

  // The next batch; null: there is none yet. kDataLoss: changes were lost; kUnavailable: closed.
  Result<std::shared_ptr<const PrefixBatch>> next(Place& place);
  bool has_lost(const Place& place) const;

  // Tells all subscribers that it is over. Idempotent.
  void close();

 private:
  struct News {
    double unix_seconds = 0.0;
    PrefixChanges changes;
  };

  void push(PrefixChanges changes);  // engine thread
  void number_news();                // text pool
  void append(News news);
  void append_picture(News news);
  void add(PrefixBatch batch);
  void trim();
  void ask_for_picture();
  void forget_all();
  bool fell_out(std::uint64_t next) const;
  void wake_all();

  const Post post_;
  const std::size_t history_bytes_;
  Watch watch_;

  std::mutex news_mutex_;  // all that the engine thread waits for
  std::vector<News> news_;
  std::size_t news_bytes_ = 0;
  bool news_lost_ = false;
  bool is_posted_ = false;

  mutable std::mutex mutex_;  // guards all below; never taken with news_mutex_ held
  std::deque<std::shared_ptr<const PrefixBatch>> history_;
  std::size_t bytes_ = 0;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t next_event_id_ = 1;
  std::size_t picture_bytes_ = 0;         // of the last picture: it has room besides the bound
  std::optional<std::uint64_t> picture_;  // the first batch of the last one, if in the history
  bool picture_is_coming_ = false;
  bool is_watching_ = false;
  bool is_closed_ = false;
  int next_id_ = 1;
  std::unordered_map<int, std::function<void()>> subscribers_;
};

}  // namespace latentd
