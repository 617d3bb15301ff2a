// What gRPC orders and the thread sanitizer cannot see, because the libraries are not instrumented:
// whatever was done before a call of gRPC's comes before the reaction to it, OnDone waits for the
// other reactions, and a server's shutdown waits for them all.
//
//   before_grpc(this)             just before StartWrite, Finish or the setting of an alarm
//   GrpcReaction reaction(this);  first of all in a reaction
//   after_shutdown()              once the server is gone
//
// What touches a reactor after its last call is still found. Nothing in other builds.
#pragma once

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace latentd {

#ifdef __SANITIZE_THREAD__
inline char all_reactions = 0;  // its address alone means something
inline void before_grpc(void* reactor) { __tsan_release(reactor); }
inline void after_grpc(void* reactor) { __tsan_acquire(reactor); }
inline void after_shutdown() { __tsan_acquire(&all_reactions); }
inline void after_reaction() { __tsan_release(&all_reactions); }
#else
inline void before_grpc(void* /*reactor*/) {}
inline void after_grpc(void* /*reactor*/) {}
inline void after_shutdown() {}
inline void after_reaction() {}
#endif

class GrpcReaction final {
 public:
  explicit GrpcReaction(void* reactor) : reactor_(reactor) { after_grpc(reactor); }
  ~GrpcReaction() {
    before_grpc(reactor_);
    after_reaction();
  }
  GrpcReaction(const GrpcReaction&) = delete;
  GrpcReaction& operator=(const GrpcReaction&) = delete;

 private:
  void* const reactor_;
};

}  // namespace latentd
