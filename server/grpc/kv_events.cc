#include "server/grpc/kv_events.h"

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "server/access_log.h"
#include "server/grpc/call.h"
#include "server/grpc/grpc_order.h"

namespace latentd {
namespace {

std::int64_t to_block_hash(std::uint64_t hash) { return static_cast<std::int64_t>(hash); }

// Adds the changes of one salt; a run of pages that follow each other is one event.
class EventWriter final {
 public:
  EventWriter(smg_common::KvEventBatch& batch, int page_tokens)
      : batch_(batch), page_tokens_(page_tokens) {}

  void clear() { next(0).mutable_cleared(); }

  void store(const PrefixChange& change, std::uint64_t id, std::span<const TokenId> tokens) {
    if (stored_ == nullptr || change.parent != last_stored_) {
      end_run();
      stored_ = next(id).mutable_stored();
      if (change.parent) stored_->set_parent_block_hash(to_block_hash(*change.parent));
    }
    smg_common::KvBlock& block = *stored_->add_blocks();
    block.set_block_hash(to_block_hash(change.hash));
    block.mutable_token_ids()->Assign(tokens.begin(), tokens.end());
    block.set_block_size(page_tokens_);
    last_stored_ = change.hash;
  }

  void remove(const PrefixChange& change, std::uint64_t id) {
    if (removed_ == nullptr) {
      end_run();
      removed_ = next(id).mutable_removed();
    }
    removed_->add_block_hashes(to_block_hash(change.hash));
  }

 private:
  smg_common::KvCacheEvent& next(std::uint64_t id) {
    smg_common::KvCacheEvent& event = *batch_.add_events();
    event.set_event_id(id);
    return event;
  }

  void end_run() {
    stored_ = nullptr;
    removed_ = nullptr;
  }

  smg_common::KvEventBatch& batch_;
  const int page_tokens_;
  smg_common::KvBlocksStored* stored_ = nullptr;  // the run that may go on
  smg_common::KvBlocksRemoved* removed_ = nullptr;
  std::optional<std::uint64_t> last_stored_;
};

class KvEventReactor final : public grpc::ServerWriteReactor<smg_common::KvEventBatch>,
                             public std::enable_shared_from_this<KvEventReactor> {
 public:
  KvEventReactor(Frontend& frontend, grpc::CallbackServerContext& context)
      : frontend_(frontend), context_(context) {}

  void start(std::uint64_t last) {
    self_ = shared_from_this();
    std::unique_lock lock(mutex_);
    if (Status status = subscribe(last); !status.ok()) {
      final_ = std::move(status);
    } else {
      writing_ = true;
      lock.unlock();
      before_grpc(this);
      StartSendInitialMetadata();  // batches may be long in coming
      return;
    }
    go_on(lock);
  }

  void OnSendInitialMetadataDone(bool ok) override { OnWriteDone(ok); }

  void OnWriteDone(bool ok) override {
    const GrpcReaction reaction(this);
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!ok && final_.ok()) final_ = Status(StatusCode::kCancelled, "the subscriber has left");
    go_on(lock);
  }

  void OnCancel() override {
    const GrpcReaction reaction(this);
    std::unique_lock lock(mutex_);
    if (final_.ok()) final_ = Status(StatusCode::kCancelled, "cancelled by the subscriber");
    go_on(lock);
  }

  void OnDone() override {
    const GrpcReaction reaction(this);
    if (place_.id > 0) frontend_.prefix_feed().unsubscribe(place_);
    const auto last = std::move(self_);  // `this` may end with it
  }

 private:
  Status subscribe(std::uint64_t last) {
    LATENTD_ASSIGN_OR_RETURN(caller_, authenticate(context_, frontend_));
    const ServingModel* model = frontend_.model();
    if (model == nullptr) return Status(StatusCode::kUnavailable, "the model is loading");
    if (!model->info.prefix_cache) {
      return Status(StatusCode::kUnimplemented, "the server runs with --no-prefix-cache");
    }
    page_tokens_ = model->info.page_tokens;
    salt_ = frontend_.prefix_salt(caller_);
    const auto wake = [self = std::weak_ptr(self_)] {
      if (const auto reactor = self.lock()) reactor->wake();
    };
    LATENTD_ASSIGN_OR_RETURN(place_, frontend_.prefix_feed().subscribe(last, wake));
    return ok_status();
  }

  void wake() {
    std::unique_lock lock(mutex_);
    // A write that hangs is never done by itself.
    if (writing_ && frontend_.prefix_feed().has_lost(place_) && !std::exchange(gave_up_, true)) {
      // gRPC may call back while it cancels. Nobody finishes meanwhile, so `context_` stays.
      giving_up_ = true;
      lock.unlock();
      context_.TryCancel();
      lock.lock();
      giving_up_ = false;
    }
    go_on(lock);
  }

  // Starts the next write, or finishes. Whoever sets writing_ or finished_ makes the one call.
  void go_on(std::unique_lock<std::mutex>& lock) {
    if (writing_ || finished_ || giving_up_) return;
    if (final_.ok()) {
      auto batch = frontend_.prefix_feed().next(place_);
      if (!batch.ok()) {
        final_ = batch.status();
      } else if (*batch == nullptr) {
        return;
      } else {
        message_ = to_kv_event_batch(**batch, salt_, page_tokens_);
        writing_ = true;
        lock.unlock();
        before_grpc(this);
        StartWrite(&message_);
        return;
      }
    }
    finished_ = true;
    lock.unlock();
    finish();
  }

  void finish() {
    log_access({"grpc", "VllmEngine/SubscribeKvEvents", "",
                request_id_or_new(metadata_of(context_, "x-request-id")),
                std::string(status_code_name(final_.code())), arrival_, nullptr, caller_,
                parse_traceparent(metadata_of(context_, "traceparent"))});
    add_error_metadata(context_, final_, caller_);
    // OUT_OF_RANGE as it is: what a gateway subscribes afresh on.
    grpc::Status status(static_cast<grpc::StatusCode>(final_.code()), final_.message());
    before_grpc(this);
    Finish(std::move(status));
  }

  Frontend& frontend_;
  grpc::CallbackServerContext& context_;
  const TimePoint arrival_ = steady_now();
  Caller caller_;
  std::uint64_t salt_ = 0;
  int page_tokens_ = 0;
  std::shared_ptr<KvEventReactor> self_;

  std::mutex mutex_;  // guards all below
  PrefixFeed::Place place_;
  smg_common::KvEventBatch message_;  // being written while writing_
  Status final_;                      // not ok: finish
  bool writing_ = false;
  bool gave_up_ = false;    // on a subscriber that takes nothing
  bool giving_up_ = false;  // the call is being cancelled
  bool finished_ = false;
};

}  // namespace

smg_common::KvEventBatch to_kv_event_batch(const PrefixBatch& batch, std::uint64_t salt,
                                           int page_tokens) {
  smg_common::KvEventBatch message;
  message.set_sequence_number(batch.sequence);
  message.set_timestamp(batch.unix_seconds);
  const bool is_picture = batch.num_chunks > 0;
  EventWriter events(message, page_tokens);
  if (is_picture) {
    smg_common::KvSnapshotChunk& chunk = *message.mutable_snapshot();
    chunk.set_index(static_cast<std::uint32_t>(batch.chunk));
    chunk.set_count(static_cast<std::uint32_t>(batch.num_chunks));
    const auto pages = batch.pages->find(salt);
    if (pages != batch.pages->end()) {
      chunk.set_blocks(static_cast<std::uint64_t>(pages->second));
    }
    if (batch.chunk == 0) events.clear();
  }
  std::span<const TokenId> tokens = batch.news.tokens;
  std::uint64_t id = batch.first_event_id;
  for (const PrefixChange& change : batch.news.changes) {
    const std::uint64_t event_id = is_picture ? 0 : id++;
    std::span<const TokenId> page;
    if (change.kind == PrefixChange::Kind::kStored) {
      page = tokens.first(static_cast<std::size_t>(page_tokens));
      tokens = tokens.subspan(page.size());
    }
    if (change.salt != salt) continue;
    if (change.kind == PrefixChange::Kind::kStored) {
      events.store(change, event_id, page);
    } else {
      events.remove(change, event_id);
    }
  }
  return message;
}

grpc::ServerWriteReactor<smg_common::KvEventBatch>* subscribe_kv_events(
    Frontend& frontend, grpc::CallbackServerContext& context,
    const smg_common::SubscribeKvEventsRequest& request) {
  const auto reactor = std::make_shared<KvEventReactor>(frontend, context);
  reactor->start(request.start_sequence_number());
  before_grpc(reactor.get());
  return reactor.get();
}

}  // namespace latentd
