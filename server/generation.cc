#include "server/generation.h"

#include <algorithm>

#include "server/characters.h"
#include "server/chat_output.h"
#include "server/metrics.h"

namespace latentd {
namespace {

StopMatcher make_stop_matcher(const GenerationRequest& request) {
  auto matcher = StopMatcher::create(request.stop, request.include_stop_in_output);
  LATENTD_CHECK(matcher.ok(), "stop strings were validated: {}", matcher.status().to_string());
  return *std::move(matcher);
}

GenerationRequest without_prompts(GenerationRequest request) {
  request.prompts.clear();
  return request;
}

void keep_top(std::vector<TokenLogprob>& top, int wanted) {
  if (top.size() > static_cast<std::size_t>(std::max(wanted, 0))) {
    top.resize(static_cast<std::size_t>(std::max(wanted, 0)));
  }
}

}  // namespace

Generation::Choice::Choice(const ServingModel& model, const GenerationRequest& request)
    : detokenizer(*model.tokenizer, request.skip_special_tokens, marks_to_keep(request, model)),
      stops(make_stop_matcher(request)) {}

Generation::Generation(GenerationId id, PreparedGeneration prepared, const ServingModel& model,
                       Metrics& metrics, IntakeSlot slot, UpdateSink sink, TimePoint arrival)
    : id_(id),
      metrics_(metrics),
      kv_bytes_per_token_(static_cast<double>(model.info.kv_bytes_per_token)),
      slot_(std::move(slot)),
      sink_(std::move(sink)),
      arrival_(arrival),
      request_(without_prompts(std::move(prepared.request))),
      stop_tokens_(request_.stop_token_ids) {
  if (!request_.ignore_eos) {
    stop_tokens_.insert(stop_tokens_.end(), model.end_tokens.begin(), model.end_tokens.end());
  }
  for (const auto& input : prepared.inputs) {
    prompt_tokens_.push_back(static_cast<int>(input.tokens.size()));
    usage_.prompt_tokens += prompt_tokens_.back();
  }
  unfinished_ = engine_unfinished_ = prepared.num_choices();
  choices_.reserve(static_cast<std::size_t>(unfinished_));
  for (int choice = 0; choice < unfinished_; ++choice) {
    choices_.emplace_back(model, request_);
    choices_.back().delta.choice = choice;
  }
}

bool Generation::is_stop_token(TokenId token) const {
  return std::ranges::find(stop_tokens_, token) != stop_tokens_.end();
}

void Generation::on_event(int choice, Event& event, TimePoint now,
                          std::vector<RequestId>& cancels) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (!state.finished) usage_.cost.steps += event.steps - std::exchange(state.steps, event.steps);
  switch (event.kind) {
    case Event::Kind::kStarted:
      on_started(choice, event, now);
      break;
    case Event::Kind::kPromptLogprob:
      if (state.finished) break;
      keep_top(event.top, request_.prompt_logprobs);
      state.delta.prompt_tokens.push_back({event.token, std::move(event.top), 0});
      state.touched = true;
      break;
    case Event::Kind::kToken:
      if (!state.finished) on_token(choice, event, now, cancels);
      break;
    case Event::Kind::kFinished:
      on_finished(choice, event, now, cancels);
      break;
  }
}

void Generation::on_started(int choice, const Event& event, TimePoint now) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (state.started) return;  // it was preempted and comes back
  state.started = true;
  // Its events come after the step that it was admitted to: `now` would count its prefill too.
  state.admitted = std::clamp(event.time, arrival_, std::max(arrival_, now));
  const double queued = to_seconds(state.admitted - arrival_);
  metrics_.observe_queue_time(queued);
  if (!anything_started_) usage_.cost.queue_seconds = queued;
  anything_started_ = true;
  if (choice % request_.n != 0) return;  // later choices of a prompt always hit the first one's
  usage_.cached_tokens += event.cached_tokens;
  metrics_.count_prompt_tokens(prompt_tokens_[static_cast<std::size_t>(choice / request_.n)]);
}

void Generation::on_token(int choice, Event& event, TimePoint now,
                          std::vector<RequestId>& cancels) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (state.generated == 0) {
    const double waited = to_seconds(now - arrival_);
    metrics_.observe_first_token(waited);
    if (usage_.completion_tokens == 0) usage_.cost.first_token_seconds = waited;
    usage_.cost.prefill_seconds =
        std::max(usage_.cost.prefill_seconds, to_seconds(now - state.admitted));
    metrics_.observe_prefill_time(to_seconds(now - state.admitted));
    state.first_token = now;
  } else {
    const double gap = to_seconds(now - state.last_token);
    metrics_.observe_inter_token(gap);
    state.token_seconds += state.generated * gap;
  }
  state.last_token = now;
  if (state.held_stop_token >= 0) add_text(choice, std::exchange(state.held_stop_token, -1));
  if (state.stops.stopped()) {  // by a token that was held: this one comes after the end
    cancels.push_back(request_id(id_, choice));
    finish_choice(choice, {}, now);
    return;
  }
  ++state.generated;
  ++usage_.completion_tokens;
  state.touched = true;
  const TokenId token = event.token.token;
  keep_top(event.top, request_.logprobs);
  state.delta.tokens.push_back({event.token, std::move(event.top), state.text_chars});
  if (is_stop_token(token)) {
    state.held_stop_token = token;
    return;
  }
  add_text(choice, token);
  if (state.stops.stopped()) {
    cancels.push_back(request_id(id_, choice));
    finish_choice(choice, {}, now);
  }
}

void Generation::add_text(int choice, TokenId token) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  const std::string text = state.detokenizer.push(token);
  state.text_chars += count_characters(text);
  // Nothing ends a text before min_tokens: its stop strings are not looked for.
  state.delta.text += state.generated < request_.min_tokens ? text : state.stops.push(text);
}

void Generation::add_cost(const Choice& state, TimePoint now) {
  if (!state.started) return;
  const auto prompt = static_cast<std::size_t>(state.delta.choice / request_.n);
  double token_seconds = prompt_tokens_[prompt] * to_seconds(now - state.admitted);
  if (state.generated > 0) {
    token_seconds += state.token_seconds + state.generated * to_seconds(now - state.last_token);
  }
  usage_.cost.kv_byte_seconds += token_seconds * kv_bytes_per_token_;
}

void Generation::on_finished(int choice, Event& event, TimePoint now,
                             std::vector<RequestId>& cancels) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (state.engine_finished) return;
  state.engine_finished = true;
  --engine_unfinished_;
  if (state.finished) return;
  switch (event.reason) {
    case FinishReason::kDeadline:
      fail(Status(StatusCode::kDeadlineExceeded, "the deadline passed"), now, cancels);
      return;
    case FinishReason::kError:
      if (event.error.code() == StatusCode::kFailedPrecondition) {
        event.error = nothing_to_draw(request_, state.generated);
      }
      fail(event.error.ok() ? Status(StatusCode::kInternal, "the model failed") : event.error, now,
           cancels);
      return;
    case FinishReason::kCancelled:
      if (!cancelled_) {
        fail(Status(StatusCode::kUnavailable, "the server is shutting down"), now, cancels);
        return;
      }
      finish_choice(choice, {FinishKind::kCancelled, "", -1}, now);
      return;
    case FinishReason::kLength:
      finish_choice(choice, {FinishKind::kLength, "", -1}, now);
      return;
    case FinishReason::kStop:
      finish_choice(choice, {FinishKind::kStop, "", event.stop_token}, now);
      return;
  }
}

void Generation::finish_choice(int choice, Finish finish, TimePoint now) {
  Choice& state = choices_[static_cast<std::size_t>(choice)];
  if (state.held_stop_token >= 0) {
    const bool ended_it = finish.stop_token == state.held_stop_token;
    const TokenId held = std::exchange(state.held_stop_token, -1);
    if (!ended_it || request_.include_stop_in_output) add_text(choice, held);
  }
  state.delta.text += state.stops.push(state.detokenizer.finish());
  if (state.stops.stopped()) {
    const auto matched = static_cast<std::size_t>(state.stops.matched());
    finish = {FinishKind::kStop, request_.stop[matched], -1};
  } else {
    state.delta.text += state.stops.finish();
  }
  add_cost(state, now);
  if (state.generated > 0) {
    const double decoding = to_seconds(now - state.first_token);
    metrics_.observe_decode_time(decoding);
    usage_.cost.decode_seconds = std::max(usage_.cost.decode_seconds, decoding);
  }
  constexpr std::string_view kReasons[] = {"stop", "length", "abort"};
  metrics_.observe_finished(
      kReasons[static_cast<std::size_t>(finish.kind)], to_seconds(now - arrival_),
      prompt_tokens_[static_cast<std::size_t>(choice / request_.n)], state.generated);
  state.finish = finish.kind;
  state.delta.finish = std::move(finish);
  state.finished = true;
  state.touched = true;
  --unfinished_;
}

void Generation::fail(Status error, TimePoint now, std::vector<RequestId>& cancels) {
  if (error_.ok()) error_ = std::move(error);
  for (Choice& state : choices_) {
    if (!state.engine_finished) cancels.push_back(request_id(id_, state.delta.choice));
    if (state.finished) continue;
    add_cost(state, now);
    state.finished = true;
    --unfinished_;
    metrics_.observe_finished(
        "error", to_seconds(now - arrival_),
        prompt_tokens_[static_cast<std::size_t>(state.delta.choice / request_.n)], state.generated);
  }
}

void Generation::cancel(std::vector<RequestId>& cancels) {
  cancelled_ = true;
  for (const Choice& state : choices_) {
    if (!state.engine_finished) cancels.push_back(request_id(id_, state.delta.choice));
  }
}

void Generation::flush() {
  if (told_done_) return;
  GenerationUpdate update;
  for (Choice& state : choices_) {
    if (!state.touched) continue;
    state.touched = false;
    ChoiceDelta fresh;
    fresh.choice = state.delta.choice;
    update.choices.push_back(std::exchange(state.delta, std::move(fresh)));
  }
  update.done = told_done_ = unfinished_ == 0;
  if (update.choices.empty() && !update.done) return;
  update.error = update.done ? error_ : ok_status();
  if (update.done && error_.ok()) {
    for (const Choice& state : choices_) usage_.finishes.push_back(state.finish);
  }
  update.usage = usage_;
  if (told_done_ && slot_.caller() != nullptr) {
    slot_.caller()->charge_tokens(usage_.completion_tokens, steady_now());
  }
  sink_(std::move(update));
  if (told_done_) sink_ = nullptr;  // lets go of the door's side
}

}  // namespace latentd
