#include <cstdio>
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "liquidgemm_version.h"

namespace liquidgemm::cli {

void add_version(CLI::App& app, Globals&, Action& action) {
  CLI::App* verb = app.add_subcommand("version", "Print the version and the commit");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON");
  verb->footer("Example:\n  liquid version --json");
  verb->callback([json, &action] {
    action = [json] {
      if (*json) {
        const json::Object object{{"version", LIQUIDGEMM_VERSION}, {"commit", LIQUIDGEMM_COMMIT}};
        std::printf("%s", json::dump_pretty(object).c_str());
      } else {
        std::printf("liquid %s (commit %s)\n", LIQUIDGEMM_VERSION, LIQUIDGEMM_COMMIT);
      }
      return ok_status();
    };
  });
}

}  // namespace liquidgemm::cli
