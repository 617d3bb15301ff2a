// Memory that the CUDA runtime refuses while an engine starts: every allocation in turn, from
// weights to graphs. The start ends with what was asked for, and everything is given back.
//
// The linker puts the functions below between the backend and the runtime (--wrap).
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <string>

#include "engine/engine.h"
#include "tests/support/engine_rig.h"
#include "tests/support/golden.h"
#include "tests/support/inbox.h"

namespace latentd {
namespace {

// What the backend holds of the runtime, and which of its wishes is refused.
class Runtime {
 public:
  // From now on the wish of this number is refused; -1: none.
  void refuse(int number) {
    std::lock_guard lock(mutex_);
    wishes_ = 0;
    refused_ = number;
  }
  // Whether this wish, for that many bytes, is refused.
  bool refuses(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    if (wishes_++ != refused_) return false;
    refused_bytes_ = bytes;
    return true;
  }
  void take(const void* what) {
    std::lock_guard lock(mutex_);
    held_.insert(what);
  }
  void give_back(const void* what) {
    std::lock_guard lock(mutex_);
    held_.erase(what);
  }

  int wishes() const { return wishes_; }
  std::size_t refused_bytes() const { return refused_bytes_; }
  std::size_t held() const { return held_.size(); }

 private:
  std::mutex mutex_;
  int wishes_ = 0;
  int refused_ = -1;
  std::size_t refused_bytes_ = 0;
  std::set<const void*> held_;
};

Runtime memory;
Runtime graphs;

template <typename Make>
cudaError_t grant(Runtime& runtime, std::size_t bytes, const Make& make) {
  if (runtime.refuses(bytes)) return cudaErrorMemoryAllocation;
  void* made = nullptr;
  const cudaError_t error = make(made);
  if (error == cudaSuccess) runtime.take(made);
  return error;
}

}  // namespace
}  // namespace latentd

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): names of the linker's
extern "C" {
cudaError_t __real_cudaMalloc(void** data, std::size_t bytes);
cudaError_t __real_cudaFree(void* data);
cudaError_t __real_cudaMallocHost(void** data, std::size_t bytes);
cudaError_t __real_cudaFreeHost(void* data);
cudaError_t __real_cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph,
                                        unsigned long long flags);
cudaError_t __real_cudaGraphExecDestroy(cudaGraphExec_t graph);

cudaError_t __wrap_cudaMalloc(void** data, std::size_t bytes) {
  return latentd::grant(latentd::memory, bytes, [&](void*& made) {
    const cudaError_t error = __real_cudaMalloc(data, bytes);
    made = *data;
    return error;
  });
}
cudaError_t __wrap_cudaMallocHost(void** data, std::size_t bytes) {
  return latentd::grant(latentd::memory, bytes, [&](void*& made) {
    const cudaError_t error = __real_cudaMallocHost(data, bytes);
    made = *data;
    return error;
  });
}
cudaError_t __wrap_cudaGraphInstantiate(cudaGraphExec_t* graph, cudaGraph_t from,
                                        unsigned long long flags) {
  return latentd::grant(latentd::graphs, 0, [&](void*& made) {
    const cudaError_t error = __real_cudaGraphInstantiate(graph, from, flags);
    made = *graph;
    return error;
  });
}
cudaError_t __wrap_cudaFree(void* data) {
  latentd::memory.give_back(data);
  return __real_cudaFree(data);
}
cudaError_t __wrap_cudaFreeHost(void* data) {
  latentd::memory.give_back(data);
  return __real_cudaFreeHost(data);
}
cudaError_t __wrap_cudaGraphExecDestroy(cudaGraphExec_t graph) {
  latentd::graphs.give_back(graph);
  return __real_cudaGraphExecDestroy(graph);
}
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace latentd {
namespace {

class RefusedMemory : public ::testing::TestWithParam<const char*> {
 protected:
  RefusedMemory() {
    options_.device = rig_device();
    options_.kv_cache_tokens = 2'048;
    options_.max_model_len = 256;
    options_.max_num_seqs = 4;
    // A start that is refused nothing counts the wishes.
    memory.refuse(-1);
    graphs.refuse(-1);
    text_ = text_of_a_start();
    allocations_ = memory.wishes();
    graphs_ = graphs.wishes();
  }

  std::vector<TokenId> text_of_a_start() {
    Inbox inbox;
    auto engine = Engine::load(test::tiny_checkpoint(GetParam()), options_, inbox.sink());
    EXPECT_TRUE(engine.ok()) << engine.status().to_string();
    if (!engine.ok()) return {};
    EXPECT_TRUE((*engine)->submit(EngineRig::request(1, {5, 6, 7, 8}, 20)).ok());
    return inbox.wait_finished(1).tokens;
  }

  Status status_of_a_start() {
    return Engine::load(test::tiny_checkpoint(GetParam()), options_, [](std::span<Event>) {})
        .status();
  }

  EngineOptions options_;
  std::vector<TokenId> text_;
  int allocations_ = 0;
  int graphs_ = 0;
};

TEST_P(RefusedMemory, EndsTheStartWithWhatWasAskedForAndLeavesNothing) {
  ASSERT_EQ(text_.size(), 20U);
  ASSERT_GT(allocations_, 20);
  EXPECT_EQ(memory.held(), 0U);
  std::set<std::string> purposes;
  for (int number = 0; number < allocations_; ++number) {
    memory.refuse(number);
    const Status status = status_of_a_start();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.to_string();
    EXPECT_NE(status.message().find(std::to_string(memory.refused_bytes()) + " bytes"),
              std::string::npos)
        << status.message();
    purposes.insert(status.message().substr(0, status.message().find(':')));
    EXPECT_EQ(memory.held(), 0U) << status.message();
    EXPECT_EQ(graphs.held(), 0U) << status.message();
  }
  for (const char* purpose : {"weights", "scratch of operations", "slots", "logits", "cache"}) {
    EXPECT_TRUE(purposes.contains(purpose)) << purpose;
  }
  memory.refuse(-1);
  EXPECT_EQ(text_of_a_start(), text_);
}

TEST_P(RefusedMemory, ForAGraphEndsTheStartAndLeavesNothing) {
  ASSERT_GT(graphs_, 2);
  for (int number = 0; number < graphs_; ++number) {
    graphs.refuse(number);
    const Status status = status_of_a_start();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.to_string();
    EXPECT_NE(status.message().find("making a CUDA graph"), std::string::npos) << status.message();
    EXPECT_EQ(memory.held(), 0U) << number;
    EXPECT_EQ(graphs.held(), 0U) << number;
  }
  graphs.refuse(-1);
  EXPECT_EQ(text_of_a_start(), text_);
}

INSTANTIATE_TEST_SUITE_P(Models, RefusedMemory,
                         ::testing::Values("v3-grouped-yarn-fp32", "v2-yarn-bf16",
                                           "llama-gqa-bf16"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace latentd
