// The program latentd: `serve` and `version`.

#include <cstdio>

#include "server/options.h"
#include "server/serve.h"

int main(int argc, char** argv) {
  const auto line = latentd::parse_command_line(argc, argv);
  if (!line.ok()) {
    std::fprintf(stderr, "latentd: %s\nlatentd serve --help lists the options.\n",
                 line.status().message().c_str());
    return 2;
  }
  if (line->action == latentd::CommandLine::Action::kPrint) {
    std::printf("%s\n", line->text.c_str());
    return 0;
  }
  return latentd::serve(line->serve);
}
