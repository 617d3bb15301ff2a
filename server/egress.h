// Egress: from the engine thread to the doors. Its threads own the generations, each keyed to one
// of them, so that text work is off the engine's thread and no generation needs a lock.
//
// The engine thread only sorts events by thread and posts them: it never waits for text work or for
// a reader.
//
// Contract: add, remove, cancel and on_engine_events from any thread. A generation is added before
// its requests are submitted, so that no event finds nobody. close (once, or the destructor)
// handles what came and joins; from then on nothing is handled. REQUIRES for close: the engine has
// stopped.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "scheduler/scheduler.h"
#include "server/generation.h"

namespace latentd {

class Egress final {
 public:
  using EngineCancel = std::function<void(RequestId)>;

  // `cancel` is called on egress threads and must not block.
  Egress(int num_threads, EngineCancel cancel);
  ~Egress();
  Egress(const Egress&) = delete;
  Egress& operator=(const Egress&) = delete;

  void close();

  void add(std::unique_ptr<Generation> generation);
  // Forgets a generation none of whose requests the engine took.
  void remove(GenerationId id);
  // Ends a generation early; its sink hears of it. Unknown ids are ignored.
  void cancel(GenerationId id);

  // An EventSink. Moves the events away.
  void on_engine_events(std::span<Event> events);

 private:
  class Worker;

  Worker& worker_of(GenerationId id);

  const EngineCancel cancel_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace latentd
