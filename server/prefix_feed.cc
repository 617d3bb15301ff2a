#include "server/prefix_feed.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

#include "server/wall_clock.h"

namespace latentd {
namespace {

std::size_t bytes_of(const PrefixChanges& changes) {
  return changes.changes.size() * sizeof(PrefixChange) + changes.tokens.size() * sizeof(TokenId);
}

}  // namespace

void PrefixFeed::set_engine(Watch watch) {
  const std::lock_guard lock(mutex_);
  watch_ = std::move(watch);
}

Result<PrefixFeed::Place> PrefixFeed::subscribe(std::uint64_t last, std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  if (is_closed_) return Status(StatusCode::kUnavailable, "the server is shutting down");
  if (subscribers_.size() >= kMaxSubscribers) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("too many subscribers: {}", subscribers_.size()));
  }
  Place place;
  if (last > 0) {
    if (!is_watching_ || last >= next_sequence_ || fell_out(last + 1)) {
      return Status(
          StatusCode::kOutOfRange,
          fmt::format("what followed batch {} is not known any more: subscribe with 0", last));
    }
    place.next = last + 1;
  } else if (!picture_) {
    ask_for_picture();
  }
  place.id = next_id_++;
  subscribers_.emplace(place.id, std::move(wake));
  return place;
}

void PrefixFeed::unsubscribe(const Place& place) {
  const std::lock_guard lock(mutex_);
  subscribers_.erase(place.id);
}

Result<std::shared_ptr<const PrefixBatch>> PrefixFeed::next(Place& place) {
  const std::lock_guard lock(mutex_);
  if (is_closed_) return Status(StatusCode::kUnavailable, "the server is shutting down");
  if (place.next == 0) {
    if (!picture_) {
      ask_for_picture();
      return std::shared_ptr<const PrefixBatch>();
    }
    place.next = *picture_;
  }
  if (fell_out(place.next)) {
    return Status(StatusCode::kDataLoss, "the subscriber was too slow: subscribe with 0");
  }
  if (place.next == next_sequence_) return std::shared_ptr<const PrefixBatch>();
  return history_[place.next++ - history_.front()->sequence];
}

bool PrefixFeed::has_lost(const Place& place) const {
  const std::lock_guard lock(mutex_);
  return place.next > 0 && fell_out(place.next);
}

// The numbers in the history are those before next_sequence_.
bool PrefixFeed::fell_out(std::uint64_t next) const {
  return next < next_sequence_ - history_.size();
}

void PrefixFeed::ask_for_picture() {
  if (picture_is_coming_) return;
  picture_is_coming_ = is_watching_ = true;
  watch_([this](PrefixChanges changes) { push(std::move(changes)); });
}

void PrefixFeed::push(PrefixChanges changes) {
  {
    const std::lock_guard lock(news_mutex_);
    // A picture is as large as the cache is, and comes only when asked for.
    if (!changes.whole) news_bytes_ += bytes_of(changes);
    if (news_bytes_ > history_bytes_) news_lost_ = true;
    if (!news_lost_) news_.push_back({wall_seconds_now(), std::move(changes)});
    if (std::exchange(is_posted_, true)) return;
  }
  post_([this] { number_news(); });
}

void PrefixFeed::number_news() {
  std::vector<News> news;
  bool lost = false;
  {
    const std::lock_guard lock(news_mutex_);
    news.swap(news_);
    news_bytes_ = 0;
    lost = std::exchange(news_lost_, false);
    is_posted_ = false;
  }
  {
    const std::lock_guard lock(mutex_);
    for (News& each : news) append(std::move(each));
    if (lost) forget_all();
  }
  wake_all();
}

void PrefixFeed::append(News news) {
  if (news.changes.whole) {
    append_picture(std::move(news));
  } else {
    PrefixBatch batch;
    batch.unix_seconds = news.unix_seconds;
    batch.news = std::move(news.changes);
    add(std::move(batch));
  }
  trim();
}

// In pieces, so that no message is too large.
void PrefixFeed::append_picture(News news) {
  const PrefixChanges& all = news.changes;
  auto pages = std::make_shared<std::unordered_map<std::uint64_t, std::int64_t>>();
  std::size_t stored = 0;
  for (const PrefixChange& change : all.changes) {
    const bool is_stored = change.kind == PrefixChange::Kind::kStored;
    stored += is_stored ? 1 : 0;
    (*pages)[change.salt] += is_stored ? 1 : -1;
  }
  const std::size_t page_tokens = stored == 0 ? 0 : all.tokens.size() / stored;
  const std::size_t count =
      std::max<std::size_t>(1, (all.changes.size() + kPictureChunkPages - 1) / kPictureChunkPages);
  picture_ = next_sequence_;
  picture_bytes_ = bytes_of(all) + count * sizeof(PrefixBatch);
  picture_is_coming_ = false;
  auto token = all.tokens.begin();
  for (std::size_t i = 0; i < count; ++i) {
    PrefixBatch batch;
    batch.unix_seconds = news.unix_seconds;
    batch.chunk = static_cast<int>(i);
    batch.num_chunks = static_cast<int>(count);
    batch.pages = pages;
    const std::size_t begin = i * kPictureChunkPages;
    const std::size_t end = std::min(all.changes.size(), begin + kPictureChunkPages);
    for (std::size_t at = begin; at < end; ++at) {
      const PrefixChange& change = all.changes[at];
      batch.news.changes.push_back(change);
      if (change.kind != PrefixChange::Kind::kStored) continue;
      const auto next = token + static_cast<std::ptrdiff_t>(page_tokens);
      batch.news.tokens.insert(batch.news.tokens.end(), token, next);
      token = next;
    }
    add(std::move(batch));
  }
}

void PrefixFeed::add(PrefixBatch batch) {
  batch.sequence = next_sequence_++;
  batch.first_event_id = next_event_id_;
  next_event_id_ += batch.news.changes.size();
  bytes_ += sizeof(batch) + bytes_of(batch.news);
  history_.push_back(std::make_shared<const PrefixBatch>(std::move(batch)));
}

void PrefixFeed::trim() {
  while (bytes_ > history_bytes_ + picture_bytes_) {
    bytes_ -= sizeof(PrefixBatch) + bytes_of(history_.front()->news);
    history_.pop_front();
  }
  if (!picture_ || !fell_out(*picture_)) return;
  picture_.reset();
  if (subscribers_.empty()) forget_all();
}

void PrefixFeed::forget_all() {
  history_.clear();
  bytes_ = 0;
  ++next_sequence_;  // whoever waited for the next batch has lost something
  picture_.reset();
  picture_is_coming_ = is_watching_ = false;
  watch_({});
}

void PrefixFeed::wake_all() {
  std::vector<std::function<void()>> wakes;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, wake] : subscribers_) wakes.push_back(wake);
  }
  for (const auto& wake : wakes) wake();
}

void PrefixFeed::close() {
  {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
  }
  wake_all();
}

}  // namespace latentd
