// Loads and stores shared by the vectorised files; included once a target (Highway's -inl
// convention), inside no namespace.
//
// bf16 elements are passed as std::uint16_t and widened to fp32 exactly. Partial forms touch only
// `count` elements; the other lanes are zero.
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(LATENTD_CPU_VECTOR_LOAD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LATENTD_CPU_VECTOR_LOAD_INL_H
#undef LATENTD_CPU_VECTOR_LOAD_INL_H
#else
#define LATENTD_CPU_VECTOR_LOAD_INL_H
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace latentd::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;

HWY_INLINE hn::Vec<DF> load_vector(DF df, const float* p) { return hn::LoadU(df, p); }

HWY_INLINE hn::Vec<DF> load_vector(DF df, const std::uint16_t* p) {
  const hn::Rebind<std::uint16_t, DF> du16;
  const hn::RebindToUnsigned<DF> du32;
  return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, p))));
}

template <class T>
HWY_INLINE hn::Vec<DF> load_partial(DF df, const T* p, std::size_t count) {
  HWY_ALIGN T buffer[hn::MaxLanes(DF())] = {};
  std::memcpy(buffer, p, count * sizeof(T));
  return load_vector(df, buffer);
}

HWY_INLINE void store_partial(DF df, hn::Vec<DF> v, float* p, std::size_t count) {
  HWY_ALIGN float buffer[hn::MaxLanes(DF())];
  hn::Store(v, df, buffer);
  std::memcpy(p, buffer, count * sizeof(float));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace latentd::cpu
HWY_AFTER_NAMESPACE();

#endif
