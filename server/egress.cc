#include "server/egress.h"

#include <limits>
#include <thread>
#include <unordered_map>

#include "base/mailbox.h"

namespace latentd {
namespace {

struct Message {
  enum class Kind : std::uint8_t { kAdd, kRemove, kCancel, kEvents };

  Kind kind = Kind::kEvents;
  GenerationId id;
  std::unique_ptr<Generation> generation;
  std::vector<Event> events;
};

}  // namespace

class Egress::Worker final {
 public:
  explicit Worker(const EngineCancel& cancel)
      : engine_cancel_(cancel), thread_([this] { run(); }) {}
  ~Worker() { close(); }

  void close() {
    inbox_.close();
    if (thread_.joinable()) thread_.join();
  }

  void post(Message message) { inbox_.push_always(std::move(message)); }

 private:
  void run() {
    std::vector<Message> messages;
    while (true) {
      inbox_.wait_drain(messages);
      if (messages.empty()) return;  // closed
      for (Message& message : messages) handle(message);
      // One update a generation, however many events came meanwhile.
      for (const GenerationId id : touched_) flush(id);
      touched_.clear();
      for (const RequestId id : cancels_) engine_cancel_(id);
      cancels_.clear();
    }
  }

  void handle(Message& message) {
    switch (message.kind) {
      case Message::Kind::kAdd:
        generations_.emplace(message.id, std::move(message.generation));
        break;
      case Message::Kind::kRemove:
        generations_.erase(message.id);
        break;
      case Message::Kind::kCancel:
        if (const auto found = generations_.find(message.id); found != generations_.end()) {
          found->second->cancel(cancels_);
        }
        break;
      case Message::Kind::kEvents:
        for (Event& event : message.events) {
          const auto found = generations_.find(generation_of(event.request));
          if (found == generations_.end()) continue;
          // As of when the engine had it: this thread may be late, and then has much at once.
          found->second->on_event(choice_of(event.request), event, event.time, cancels_);
          touched_.push_back(found->first);
        }
        break;
    }
  }

  void flush(GenerationId id) {
    const auto found = generations_.find(id);
    if (found == generations_.end()) return;
    found->second->flush();
    if (found->second->over()) generations_.erase(found);
  }

  const EngineCancel& engine_cancel_;
  Mailbox<Message> inbox_{std::numeric_limits<std::size_t>::max()};
  std::unordered_map<GenerationId, std::unique_ptr<Generation>> generations_;
  std::vector<GenerationId> touched_;
  std::vector<RequestId> cancels_;
  std::thread thread_;  // last: it uses all of the above
};

Egress::Egress(int num_threads, EngineCancel cancel) : cancel_(std::move(cancel)) {
  for (int i = 0; i < num_threads; ++i) workers_.push_back(std::make_unique<Worker>(cancel_));
}

Egress::~Egress() = default;

void Egress::close() {
  for (const auto& worker : workers_) worker->close();
}

Egress::Worker& Egress::worker_of(GenerationId id) {
  return *workers_[static_cast<std::size_t>(id.value() % workers_.size())];
}

void Egress::add(std::unique_ptr<Generation> generation) {
  const GenerationId id = generation->id();
  worker_of(id).post({Message::Kind::kAdd, id, std::move(generation), {}});
}

void Egress::remove(GenerationId id) {
  worker_of(id).post({Message::Kind::kRemove, id, nullptr, {}});
}

void Egress::cancel(GenerationId id) {
  worker_of(id).post({Message::Kind::kCancel, id, nullptr, {}});
}

void Egress::on_engine_events(std::span<Event> events) {
  std::vector<std::vector<Event>> batches(workers_.size());
  for (Event& event : events) {
    const auto worker = generation_of(event.request).value() % workers_.size();
    batches[static_cast<std::size_t>(worker)].push_back(std::move(event));
  }
  for (std::size_t i = 0; i < batches.size(); ++i) {
    if (batches[i].empty()) continue;
    workers_[i]->post({Message::Kind::kEvents, GenerationId(), nullptr, std::move(batches[i])});
  }
}

}  // namespace latentd
