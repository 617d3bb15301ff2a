// The program latentd: `serve`, `inspect`, `health`, `new-key` and `version`.

#include <cstdio>

#include "server/api_keys.h"
#include "server/health_probe.h"
#include "server/inspect.h"
#include "server/options.h"
#include "server/serve.h"

namespace latentd {
namespace {

int fail(const Status& status) {
  std::fprintf(stderr, "latentd: %s\n", status.message().c_str());
  return 1;
}

int print_inspection(const InspectOptions& options) {
  const auto inspection = inspect_checkpoint(options);
  if (!inspection.ok()) return fail(inspection.status());
  std::puts((options.json ? inspection_json(*inspection) : inspection_text(*inspection)).c_str());
  return 0;
}

int ask_health(const HealthOptions& options) {
  const Status status = probe_health(options);
  return status.ok() ? 0 : fail(status);
}

// The key goes where a redirected line does not.
int make_key(const KeyPolicy& policy) {
  const std::string key = random_key();
  std::puts(key_file_line({sha256_of(key), policy}).c_str());
  std::fprintf(stderr, "%s\n", key.c_str());
  return 0;
}

int run(int argc, char** argv) {
  const auto line = parse_command_line(argc, argv);
  if (!line.ok()) {
    std::fprintf(stderr, "latentd: %s\nlatentd --help lists the commands and their options.\n",
                 line.status().message().c_str());
    return 2;
  }
  switch (line->action) {
    case CommandLine::Action::kServe:
      return serve(line->serve);
    case CommandLine::Action::kInspect:
      return print_inspection(line->inspect);
    case CommandLine::Action::kHealth:
      return ask_health(line->health);
    case CommandLine::Action::kNewKey:
      return make_key(line->new_key);
    case CommandLine::Action::kPrint:
      break;
  }
  std::puts(line->text.c_str());
  return 0;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::run(argc, argv); }
