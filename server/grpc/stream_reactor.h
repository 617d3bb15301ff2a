// StreamReactor: one call that generates, from its message to its last write, whatever service it
// belongs to.
//
// A Dialect says what the service's messages mean:
//
//   using Message, Response;                            its request and its stream's messages
//   static constexpr std::string_view kMethod;          for the access log
//   Result<GenerationRequest> read(const Message&, const ServingModel&);
//   void begin(const PreparedGeneration&, const ServingModel&, const std::string& request_id);
//   std::string_view operation() const;                 "chat" or "text_completion", for traces
//   std::vector<Response> render(GenerationUpdate&);    what an update becomes; never called after
//                                                       the one that is done
//
// Contract: start returns at once; the reactor owns itself until gRPC is done with it. read is
// called on gRPC's thread, begin on the text pool, render on an egress thread, one after the other.
// Internal to server/grpc.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "server/access_log.h"
#include "server/grpc/call.h"
#include "server/grpc/convert.h"
#include "server/grpc/grpc_order.h"
#include "server/wall_clock.h"

namespace latentd {

// A reader that leaves so much lying is given up, as one that takes nothing for the stall limit.
inline constexpr std::size_t kBacklogLimit = std::size_t{8} << 20;

template <typename Dialect>
class StreamReactor final : public grpc::ServerWriteReactor<typename Dialect::Response>,
                            public std::enable_shared_from_this<StreamReactor<Dialect>> {
 public:
  using Message = typename Dialect::Message;
  using Response = typename Dialect::Response;

  static grpc::ServerWriteReactor<Response>* start(Frontend& frontend,
                                                   grpc::CallbackServerContext& context,
                                                   const Message& message) {
    const auto reactor = std::make_shared<StreamReactor>(frontend, context);
    reactor->start(message);
    before_grpc(reactor.get());
    return reactor.get();
  }

  StreamReactor(Frontend& frontend, grpc::CallbackServerContext& context)
      : frontend_(frontend), context_(context), arrival_(steady_now()) {}

  void OnWriteDone(bool ok) override {
    const GrpcReaction reaction(this);
    std::unique_lock lock(mutex_);
    backlog_bytes_ -= backlog_.front().ByteSizeLong();
    backlog_.pop_front();
    writing_ = false;
    if (!ok) drop_backlog();  // the stream is broken; OnCancel comes or came
    go_on(lock);
  }

  void OnCancel() override {
    const GrpcReaction reaction(this);
    std::unique_lock lock(mutex_);
    cancelled_ = true;
    if (generation_ && !ended_) frontend_.cancel(*generation_, "disconnect");
  }

  void OnDone() override {
    const GrpcReaction reaction(this);
    stall_alarm_.Cancel();
    const auto last = std::move(self_);  // `this` may end with it
  }

 private:
  // Shared with the text pool and egress, which may still hold it when gRPC is done.
  void start(const Message& message) {
    self_ = this->shared_from_this();
    request_id_ = request_id_or_new(message.request_id(), "gen-");
    if (Status status = begin(message); !status.ok()) end(status);
  }

  Status begin(const Message& message) {
    LATENTD_ASSIGN_OR_RETURN(caller_, authenticate(context_, frontend_));
    LATENTD_ASSIGN_OR_RETURN(IntakeSlot slot, frontend_.reserve(caller_));
    LATENTD_ASSIGN_OR_RETURN(request_, dialect_.read(message, *frontend_.model()));
    request_.deadline = deadline_of(context_);
    LATENTD_RETURN_IF_ERROR(check_request_id(message.request_id()));
    frontend_.post([self = self_, slot = std::move(slot)]() mutable {
      if (Status status = self->launch(std::move(slot)); !status.ok()) self->end(status);
    });
    return ok_status();
  }

  Status check_request_id(const std::string& asked) const {
    if (asked.empty()) return ok_status();
    if (asked != request_id_) {
      return invalid_argument("request_id", "must be 1 to 128 visible ASCII characters");
    }
    if (!frontend_.is_alive(caller_, asked)) return ok_status();
    return Status(StatusCode::kAlreadyExists, "a request with this id is alive")
        .with_field("request_id");
  }

  // On the text pool.
  Status launch(IntakeSlot slot) {
    auto prepared = prepare(std::move(request_), *frontend_.model());
    if (!prepared.ok()) {
      frontend_.metrics().count_rejected("invalid");
      return prepared.status();
    }
    dialect_.begin(*prepared, *frontend_.model(), request_id_);
    LATENTD_ASSIGN_OR_RETURN(
        const GenerationId id,
        frontend_.launch(
            *std::move(prepared), std::move(slot), request_id_,
            [self = self_](GenerationUpdate update) { self->on_update(update); }, arrival_));
    std::unique_lock lock(mutex_);
    generation_ = id;
    if (cancelled_) frontend_.cancel(id, "disconnect");
    return ok_status();
  }

  // On an egress thread.
  void on_update(GenerationUpdate& update) {
    std::unique_lock lock(mutex_);
    if (ended_) return;
    for (Response& response : dialect_.render(update)) push(std::move(response));
    if (update.done) {
      ended_ = true;
      usage_ = update.usage;
      launched_ = true;
      final_ = update.error;
      if (writing_) watch_reader();
    }
    if (reader_is_stuck()) give_up(lock);
    go_on(lock);
  }

  // Once nothing new comes, only a clock can tell that a reader is stuck.
  void watch_reader() {
    const auto left =
        std::max(Duration::zero(), write_began_ + frontend_.stall_limit() - steady_now());
    before_grpc(this);
    stall_alarm_.Set(
        std::chrono::system_clock::now() + std::chrono::ceil<std::chrono::milliseconds>(left),
        [self = self_](bool rang) {
          const GrpcReaction reaction(self.get());
          if (rang) self->look_at_reader();
        });
  }

  void look_at_reader() {
    std::unique_lock lock(mutex_);
    if (finished_ || cancelled_ || gave_up_) return;
    if (reader_is_stuck()) {
      give_up(lock);
      go_on(lock);
    } else {
      watch_reader();
    }
  }

  // Ends the call under a reader that takes nothing: its last write would hang for ever.
  void give_up(std::unique_lock<std::mutex>& lock) {
    gave_up_ = true;
    drop_backlog();
    frontend_.cancel(*generation_, "slow_reader");
    // gRPC may call back while it cancels. Nobody finishes meanwhile, so `context_` stays.
    giving_up_ = true;
    lock.unlock();
    context_.TryCancel();
    lock.lock();
    giving_up_ = false;
  }

  void push(Response response) {
    if (gave_up_ || cancelled_) return;
    backlog_bytes_ += response.ByteSizeLong();
    backlog_.push_back(std::move(response));
  }

  // All but the message that is being written.
  void drop_backlog() {
    backlog_.resize(writing_ ? 1 : 0);
    backlog_bytes_ = writing_ ? backlog_.front().ByteSizeLong() : 0;
  }

  bool reader_is_stuck() const {
    if (gave_up_ || !generation_) return false;
    return backlog_bytes_ > kBacklogLimit ||
           (writing_ && steady_now() - write_began_ >= frontend_.stall_limit());
  }

  void end(const Status& status) {
    std::unique_lock lock(mutex_);
    ended_ = true;
    final_ = status;
    go_on(lock);
  }

  // Starts the next write, or finishes. Whoever sets writing_ or finished_ makes the one call,
  // after giving up the lock: gRPC may then call back at once.
  void go_on(std::unique_lock<std::mutex>& lock) {
    if (writing_ || finished_ || giving_up_) return;
    if (!backlog_.empty()) {
      writing_ = true;
      write_began_ = steady_now();
      const Response& next = backlog_.front();
      lock.unlock();
      before_grpc(this);
      this->StartWrite(&next);
      return;
    }
    if (!ended_) return;
    finished_ = true;
    lock.unlock();
    finish();
  }

  void finish() {
    Status status = final_;
    if (status.ok() && gave_up_) {
      status = Status(StatusCode::kCancelled, "the reader was too slow");
    } else if (status.ok() && cancelled_) {
      status = Status(StatusCode::kCancelled, "cancelled by the client");
    }
    add_error_metadata(context_, status, caller_);
    if (launched_) add_cost_metadata(context_, usage_);
    const auto trace = frontend_.trace_of(metadata_of(context_, "traceparent"));
    RequestRecord record = {request_id_,
                            std::string(Dialect::kMethod),
                            std::string(status_code_name(status.code())),
                            wall_seconds_now(),
                            to_seconds(steady_now() - arrival_),
                            tenant_of(caller_),
                            usage_};
    log_access({"grpc", Dialect::kMethod, "", request_id_, record.status, arrival_,
                status.code() == StatusCode::kOk ? &usage_ : nullptr, caller_, trace});
    frontend_.export_span(trace, SpanDoor::kGrpc, dialect_.operation(), record);
    if (generation_) frontend_.remember(std::move(record));
    before_grpc(this);
    this->Finish(to_grpc_status(status));
  }

  Frontend& frontend_;
  grpc::CallbackServerContext& context_;
  const TimePoint arrival_;
  std::string request_id_;
  Caller caller_;
  GenerationRequest request_;  // until it is prepared
  Dialect dialect_;
  std::shared_ptr<StreamReactor> self_;

  grpc::Alarm stall_alarm_;
  std::mutex mutex_;              // guards all below
  std::deque<Response> backlog_;  // the front is being written while writing_
  std::size_t backlog_bytes_ = 0;
  TimePoint write_began_{};
  std::optional<GenerationId> generation_;
  Usage usage_;
  Status final_;
  bool launched_ = false;  // usage_ is known
  bool writing_ = false;
  bool cancelled_ = false;  // by gRPC: the client left or its deadline passed
  bool gave_up_ = false;    // on a reader that takes nothing
  bool giving_up_ = false;  // the call is being cancelled
  bool ended_ = false;      // nothing more will be pushed; final_ is set
  bool finished_ = false;   // Finish was called
};

}  // namespace latentd
