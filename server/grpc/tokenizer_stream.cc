#include "server/grpc/tokenizer_stream.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "server/access_log.h"
#include "server/grpc/call.h"
#include "server/grpc/convert.h"
#include "server/grpc/grpc_order.h"

namespace latentd {
namespace {

using Chunk = ::smg::grpc::common::GetTokenizerChunk;

constexpr std::size_t kChunkBytes = std::size_t{64} << 10;

// One call after another of gRPC's, each begun by the one before: no lock.
class TokenizerReactor final : public grpc::ServerWriteReactor<Chunk>,
                               public std::enable_shared_from_this<TokenizerReactor> {
 public:
  TokenizerReactor(Frontend& frontend, grpc::CallbackServerContext& context)
      : frontend_(frontend), context_(context) {}

  void start(TokenizerArchive& archive) {
    self_ = shared_from_this();
    auto slot = admit();
    if (!slot.ok()) return finish(slot.status());
    frontend_.post([self = self_, &archive, slot = *std::move(slot)] {
      auto made = archive.of(self->frontend_.model()->directory);
      if (!made.ok()) {
        spdlog::error("GetTokenizer: {}", made.status().message());
        return self->finish(Status(StatusCode::kInternal, "the tokenizer's files cannot be read"));
      }
      self->archive_ = *std::move(made);
      self->write_next();
    });
  }

  void OnWriteDone(bool ok) override {
    const GrpcReaction reaction(this);
    if (!ok) return finish(Status(StatusCode::kCancelled, "the client has left"));
    if (sent_ == archive_->zip.size()) return finish(ok_status());
    write_next();
  }

  void OnDone() override {
    const GrpcReaction reaction(this);
    const auto last = std::move(self_);
  }

 private:
  Result<IntakeSlot> admit() {
    LATENTD_ASSIGN_OR_RETURN(caller_, authenticate(context_, frontend_));
    return frontend_.reserve(caller_);
  }

  void write_next() {
    const std::string& zip = archive_->zip;
    const std::size_t count = std::min(kChunkBytes, zip.size() - sent_);
    chunk_.set_data(zip.substr(sent_, count));
    sent_ += count;
    if (sent_ == zip.size()) chunk_.set_sha256(archive_->sha256);
    before_grpc(this);
    StartWrite(&chunk_);
  }

  void finish(const Status& status) {
    add_error_metadata(context_, status, caller_);
    log_access({"grpc", "VllmEngine/GetTokenizer", "",
                request_id_or_new(metadata_of(context_, "x-request-id")),
                std::string(status_code_name(status.code())), arrival_, nullptr, caller_,
                parse_traceparent(metadata_of(context_, "traceparent"))});
    before_grpc(this);
    Finish(to_grpc_status(status));
  }

  Frontend& frontend_;
  grpc::CallbackServerContext& context_;
  const TimePoint arrival_ = steady_now();
  Caller caller_;
  std::shared_ptr<TokenizerReactor> self_;
  std::shared_ptr<const ArchiveBytes> archive_;
  std::size_t sent_ = 0;
  Chunk chunk_;
};

}  // namespace

grpc::ServerWriteReactor<Chunk>* stream_tokenizer(Frontend& frontend, TokenizerArchive& archive,
                                                  grpc::CallbackServerContext& context) {
  const auto reactor = std::make_shared<TokenizerReactor>(frontend, context);
  reactor->start(archive);
  before_grpc(reactor.get());
  return reactor.get();
}

}  // namespace latentd
