// ToolCallParser: tells the calls of tools in a model's text from its content, wherever chunks
// begin and end.
//
// Arguments stream: they are given on as they come, as the text of a JSON object (of formats that
// are read as a whole: at the end of the call). Of tags, whose
// values have no types, a value becomes a string where the tool's schema says so, otherwise the
// JSON that it is, otherwise a string. White space before, between and behind calls is no content.
// What looks like a call and is none (no name, no JSON) stays content, marks and all. Without marks
// (Llama) only the name of a known tool makes a call.
//
// Contract: one stream, one thread. Without calls, what push and finish returned as content is the
// whole text. Arguments that a text breaks off stay broken off, as in OpenAI's API: whoever gets
// them parses them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/json_extent.h"
#include "server/text/tool_call_format.h"

namespace latentd {

// A part of call `index`. The first of each has its id and name.
struct ToolCallDelta {
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
};

class ToolCallParser final {
 public:
  struct Parts {
    std::string content;
    std::vector<ToolCallDelta> calls;  // at most one an index, in order
  };

  // Calls that bring no id are called `id_prefix` and their index. Not `parallel`: calls after the
  // first are dropped.
  ToolCallParser(const ToolCallFormat& format, std::vector<ToolSignature> tools,
                 std::string id_prefix, bool parallel);

  Parts push(std::string_view text);
  Parts finish();

  int num_calls() const { return num_calls_; }

 private:
  enum class State : std::uint8_t {
    kContent,    // looking for a mark
    kStart,      // of a text without marks: is it a call?
    kPlain,      // nothing but content until the end
    kBetween,    // inside of a section, before a call
    kOpen,       // kJson: before {
    kKey,        // kJson: before a key, or the end
    kInKey,      // kJson
    kColon,      // kJson
    kValue,      // kJson: before a value
    kInValue,    // kJson
    kHeader,     // kNamed
    kArguments,  // kNamed: before {
    kInArguments,
    kTagName,   // kTags
    kTags,      // kTags: before a pair, or the end
    kTagKey,    // kTags
    kTagGap,    // kTags: between key and value
    kTagValue,  // kTags
    kWhole,     // before the end of the call
    kTail,      // behind what we read of a call, before its end
  };

  static State first_state(ToolCallFormat::Body body);  // of a call

  // Each reads a piece of held_; false: more text is needed.
  bool step(Parts& parts);
  bool step_content(Parts& parts);
  bool step_start(Parts& parts);
  bool step_between(Parts& parts);
  bool step_tail();
  bool step_json(Parts& parts);
  bool step_in_json(Parts& parts);
  bool step_named(Parts& parts);
  bool step_tags(Parts& parts);
  bool step_tag_value(Parts& parts);
  bool step_whole(Parts& parts);
  bool end_json_value(Parts& parts);
  bool end_json_call(Parts& parts);
  // Return true.
  bool begin_named(Parts& parts, const std::string& name, std::string id);
  bool give_up(Parts& parts);    // it was no call: its text is content
  bool malformed(Parts& parts);  // the same, if that can still be said; else the rest is dropped

  bool skip_space();  // false: nothing else is held
  std::string take(std::size_t size);
  std::size_t name_size(std::string_view header) const;
  bool is_known(std::string_view name) const;
  void record();
  void begin_call(State state);
  void end_call();
  void add_content(Parts& parts, std::string_view text);
  void add_arguments(Parts& parts, std::string_view text);

  const ToolCallFormat& format_;
  const std::vector<ToolSignature> tools_;
  const std::string id_prefix_;
  const bool parallel_;

  State state_;
  std::string held_;   // not read yet
  std::string space_;  // white space that is content if content follows
  bool recording_ = false;
  std::string raw_;  // what was read since a mark, while it may turn out to be no call
  int num_calls_ = 0;

  // Of the call that is being read.
  bool named_ = false;  // its first delta is out
  bool has_arguments_ = false;
  std::string name_;
  std::string arguments_;  // before the name is known
  std::string key_;
  std::string value_;
  bool streaming_ = false;  // the value goes out as it comes
  JsonExtent extent_;
};

}  // namespace latentd
