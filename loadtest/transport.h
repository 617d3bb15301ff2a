// Transport: how one thread sends requests and reads the answers: HTTP or gRPC.
//
// Contract: one thread calls everything, and everything happens inside its calls. A request that
// was started ends exactly once, inside wait() or abort_all(), with its entry in the recorder and
// its index in finished(). start() never fails: what goes wrong is how the request ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "loadtest/measures.h"
#include "loadtest/plan.h"

namespace latentd::loadtest {

enum class Api : std::uint8_t { kCompletions, kChat, kGrpc };

struct Target {
  Api api = Api::kCompletions;
  std::string host = "127.0.0.1";
  int port = 8000;
  std::string path_prefix;  // before /v1/...
  std::string model;        // empty: not sent
  std::string api_key;
  TokenRange tokens;
  double temperature = 0.0;
  bool ignore_eos = true;  // answers have exactly max_tokens tokens
  bool token_ids = false;  // ask for token ids: exact counts and hashes, more bytes
  double timeout_s = 600.0;
  double slow_reader_bytes_per_s = 200.0;
  int grpc_channels = 1;  // connections of each thread
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual void start(std::size_t index, TimePoint intended) = 0;
  // Sends and reads until `until`, or returns earlier after something happened.
  virtual void wait(TimePoint until) = 0;
  virtual void abort_all(const std::string& error) = 0;
  virtual std::size_t in_flight() const = 0;
  // The requests that ended since the last call, by index in the plan.
  std::vector<std::size_t> take_finished() { return std::exchange(finished_, {}); }

 protected:
  std::vector<std::size_t> finished_;
};

// What both are made from; all outlive the transport.
struct TransportContext {
  const Target& target;
  const Scenario& scenario;
  const std::vector<PlannedRequest>& plan;
  Recorder& recorder;
};

// kUnavailable when the host has no address.
Result<std::unique_ptr<Transport>> make_http_transport(const TransportContext& context);
Result<std::unique_ptr<Transport>> make_grpc_transport(const TransportContext& context);

}  // namespace latentd::loadtest
