#include "server/tracing/otlp_spans.h"

#include <gmock/gmock.h>

#include <map>

namespace latentd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string kTraceBytes = "\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
const std::string kParentBytes("\x00\xf0\x67\xaa\x0b\xa9\x02\xb7", 8);
const std::string kSpanBytes = "\x12\x34\x56\x78\x9a\xbc\xde\xf0";

// Arrived at 1000 s, 0.5 s in the queue, first token at 2 s, last at 5 s, answered at 6 s.
RequestSpan answered() {
  RequestSpan span;
  span.trace = {kTrace, "00f067aa0ba902b7", "123456789abcdef0", "01"};
  span.operation = "chat";
  span.model = "m";
  span.request = {"req-1", "/v1/chat/completions", "200", 1006.0, 6.0, "search", {}};
  Usage& usage = span.request.usage;
  usage.prompt_tokens = 11;
  usage.completion_tokens = 7;
  usage.cached_tokens = 4;
  usage.cost.queue_seconds = 0.5;
  usage.cost.first_token_seconds = 2.0;
  usage.cost.prefill_seconds = 1.5;
  usage.cost.decode_seconds = 3.0;
  usage.cost.steps = 8;
  usage.finishes = {FinishKind::kStop, FinishKind::kLength};
  return span;
}

otlp::ScopeSpans spans_of(const RequestSpan& span) {
  otlp::ScopeSpans spans;
  append_spans(span, spans);
  EXPECT_EQ(spans.spans_size(), num_spans(span));
  return spans;
}

std::map<std::string, otlp::AnyValue> attributes_of(const otlp::Span& span) {
  std::map<std::string, otlp::AnyValue> attributes;
  for (const auto& attribute : span.attributes()) attributes[attribute.key()] = attribute.value();
  EXPECT_EQ(attributes.size(), static_cast<std::size_t>(span.attributes_size()));
  return attributes;
}

// "name begin end" in seconds since 1970.
std::vector<std::string> timeline(const otlp::ScopeSpans& spans) {
  std::vector<std::string> lines;
  for (const otlp::Span& span : spans.spans()) {
    const auto seconds = [](std::uint64_t ns) {
      EXPECT_EQ(ns % 100'000'000, 0U);
      return std::to_string(ns / 1'000'000'000) + "." + std::to_string(ns / 100'000'000 % 10);
    };
    lines.push_back(span.name() + " " + seconds(span.start_time_unix_nano()) + " " +
                    seconds(span.end_time_unix_nano()));
  }
  return lines;
}

TEST(OtlpSpans, NameTheirPlaceInTheTrace) {
  const otlp::ScopeSpans spans = spans_of(answered());
  const otlp::Span& whole = spans.spans(0);
  EXPECT_EQ(whole.trace_id(), kTraceBytes);
  EXPECT_EQ(whole.span_id(), kSpanBytes);
  EXPECT_EQ(whole.parent_span_id(), kParentBytes);
  EXPECT_EQ(whole.kind(), otlp::Span::SPAN_KIND_SERVER);
  EXPECT_EQ(whole.flags(), 0x301U);  // sampled; the parent is known to be another process'
  for (int i = 1; i < spans.spans_size(); ++i) {
    const otlp::Span& child = spans.spans(i);
    EXPECT_EQ(child.trace_id(), kTraceBytes);
    EXPECT_EQ(child.parent_span_id(), kSpanBytes);
    EXPECT_EQ(child.span_id().size(), 8U);
    EXPECT_NE(child.span_id(), kSpanBytes);
    EXPECT_EQ(child.kind(), otlp::Span::SPAN_KIND_INTERNAL);
    EXPECT_EQ(child.flags(), 0x101U);
  }
}

TEST(OtlpSpans, TellWhereTheTimeWent) {
  EXPECT_THAT(timeline(spans_of(answered())),
              ElementsAre("chat m 1000.0 1006.0", "queue 1000.0 1000.5", "prefill 1000.5 1002.0",
                          "decode 1002.0 1005.0"));
}

TEST(OtlpSpans, StayWithinTheRequestWhateverTheClocksSay) {
  RequestSpan span = answered();
  span.request.usage.cost.decode_seconds = 30.0;
  span.request.usage.cost.first_token_seconds = 0.2;
  EXPECT_THAT(timeline(spans_of(span)),
              ElementsAre("chat m 1000.0 1006.0", "queue 1000.0 1000.5", "prefill 1000.5 1000.5",
                          "decode 1000.5 1006.0"));
}

TEST(OtlpSpans, SayWhatTheConventionsAskFor) {
  auto attributes = attributes_of(spans_of(answered()).spans(0));
  EXPECT_EQ(attributes["gen_ai.operation.name"].string_value(), "chat");
  EXPECT_EQ(attributes["gen_ai.request.model"].string_value(), "m");
  EXPECT_EQ(attributes["gen_ai.response.model"].string_value(), "m");
  EXPECT_EQ(attributes["gen_ai.response.id"].string_value(), "req-1");
  EXPECT_EQ(attributes["gen_ai.usage.input_tokens"].int_value(), 11);
  EXPECT_EQ(attributes["gen_ai.usage.output_tokens"].int_value(), 7);
  EXPECT_EQ(attributes["gen_ai.usage.cache_read.input_tokens"].int_value(), 4);
  EXPECT_EQ(attributes["gen_ai.latency.time_in_queue"].double_value(), 0.5);
  EXPECT_EQ(attributes["gen_ai.latency.time_to_first_token"].double_value(), 2.0);
  const auto& reasons = attributes["gen_ai.response.finish_reasons"].array_value();
  ASSERT_EQ(reasons.values_size(), 2);
  EXPECT_EQ(reasons.values(0).string_value(), "stop");
  EXPECT_EQ(reasons.values(1).string_value(), "length");
  EXPECT_EQ(attributes["http.request.method"].string_value(), "POST");
  EXPECT_EQ(attributes["http.route"].string_value(), "/v1/chat/completions");
  EXPECT_EQ(attributes["http.response.status_code"].int_value(), 200);
  EXPECT_EQ(attributes["latentd.tenant"].string_value(), "search");
  EXPECT_FALSE(attributes.contains("error.type"));
}

TEST(OtlpSpans, CallAnErrorTheServersOnlyWhenItIs) {
  struct Case {
    SpanDoor door;
    const char* status;
    bool has_type;
    bool is_error;
  };
  for (const Case& each :
       {Case{SpanDoor::kHttp, "200", false, false}, Case{SpanDoor::kHttp, "400", true, false},
        Case{SpanDoor::kHttp, "429", true, false}, Case{SpanDoor::kHttp, "499", true, false},
        Case{SpanDoor::kHttp, "503", true, true}, Case{SpanDoor::kGrpc, "OK", false, false},
        Case{SpanDoor::kGrpc, "INVALID_ARGUMENT", true, false},
        Case{SpanDoor::kGrpc, "CANCELLED", true, false},
        Case{SpanDoor::kGrpc, "UNAVAILABLE", true, true},
        Case{SpanDoor::kGrpc, "DEADLINE_EXCEEDED", true, true}}) {
    SCOPED_TRACE(each.status);
    RequestSpan span = answered();
    span.door = each.door;
    span.request.status = each.status;
    const otlp::ScopeSpans spans = spans_of(span);
    auto attributes = attributes_of(spans.spans(0));
    EXPECT_EQ(attributes.contains("error.type"), each.has_type);
    EXPECT_EQ(attributes["error.type"].string_value(), each.has_type ? each.status : "");
    EXPECT_EQ(spans.spans(0).status().code() == otlp::Status::STATUS_CODE_ERROR, each.is_error);
  }
}

TEST(OtlpSpans, OfARefusedRequestAreOne) {
  RequestSpan span = answered();
  span.trace.parent_id.clear();
  span.model.clear();
  span.request.usage = {};
  span.request.status = "503";
  const otlp::ScopeSpans spans = spans_of(span);
  EXPECT_THAT(timeline(spans), ElementsAre("chat 1000.0 1006.0"));
  EXPECT_THAT(spans.spans(0).parent_span_id(), IsEmpty());
  EXPECT_EQ(spans.spans(0).flags(), 0x101U);
  const auto attributes = attributes_of(spans.spans(0));
  EXPECT_FALSE(attributes.contains("gen_ai.usage.input_tokens"));
  EXPECT_FALSE(attributes.contains("gen_ai.request.model"));
}

}  // namespace
}  // namespace latentd
