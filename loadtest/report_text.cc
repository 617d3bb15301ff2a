#include <spdlog/fmt/fmt.h>

#include <array>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "loadtest/report.h"
#include "loadtest/report_reader.h"

namespace latentd::loadtest {
namespace {

constexpr std::array kLatencies = {"ttft", "itl", "tpot", "e2e", "client_lag"};
constexpr std::array kColumns = {"mean", "p50", "p90", "p99", "p99.9", "max"};

void add(std::string& out, const std::string& name, const std::string& value) {
  out += fmt::format("  {:<22}{}\n", name, value);
}

std::string latencies(const ReportReader& report) {
  std::string out = fmt::format("  {:<12}", "ms");
  for (const char* column : kColumns) out += fmt::format("{:>11}", column);
  out += '\n';
  for (const char* latency : kLatencies) {
    out += fmt::format("  {:<12}", latency);
    for (const char* column : kColumns) {
      out += fmt::format("{:>11.2f}", report.number({"latency_ms", latency, column}));
    }
    out += '\n';
  }
  return out;
}

std::string errors(const ReportReader& report) {
  std::string out;
  for (const auto& [kind, count] : report.counts("errors")) {
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", kind, count);
  }
  return out;
}

// What compare looks at. `better`: 1 more is better, -1 less is.
struct Figure {
  std::vector<const char*> path;
  int better;
};

std::vector<Figure> figures() {
  std::vector<Figure> list;
  for (const char* latency : {"ttft", "itl", "tpot", "e2e"}) {
    for (const char* column : {"mean", "p50", "p90", "p99"}) {
      list.push_back({{"latency_ms", latency, column}, -1});
    }
  }
  list.push_back({{"throughput", "requests_per_s"}, 1});
  list.push_back({{"throughput", "output_tokens_per_s"}, 1});
  list.push_back({{"goodput", "fraction"}, 1});
  list.push_back({{"tokens", "cached_fraction"}, 1});
  list.push_back({{"fairness", "jain_output_tokens"}, 1});
  list.push_back({{"requests", "failed"}, -1});
  return list;
}

}  // namespace

Result<std::string> summary_table(std::string_view json) {
  LATENTD_ASSIGN_OR_RETURN(const ReportReader report, ReportReader::parse(json));
  const auto count = [&report](const ReportReader::Path& path) {
    return fmt::format("{:.0f}", report.number(path));
  };
  std::string out = fmt::format("{}: {} arrivals, {} over {}\n", report.text({"scenario", "name"}),
                                report.text({"scenario", "process"}),
                                count({"requests", "sent"}) + " measured requests",
                                report.text({"target", "api"}));
  add(out, "completed", count({"requests", "completed"}));
  add(out, "cancelled by client", count({"requests", "cancelled"}));
  const std::string kinds = errors(report);
  add(out, "failed", count({"requests", "failed"}) + (kinds.empty() ? "" : "  (" + kinds + ")"));
  add(out, "requests/s", fmt::format("{:.2f}", report.number({"throughput", "requests_per_s"})));
  add(out, "output tokens/s",
      fmt::format("{:.1f}", report.number({"throughput", "output_tokens_per_s"})));
  if (report.flag({"goodput", "slo_given"})) {
    add(out, "goodput",
        fmt::format("{:.1f} % of requests, {:.2f} requests/s",
                    report.number({"goodput", "fraction"}) * 100.0,
                    report.number({"goodput", "requests_per_s"})));
  }
  add(out, "prompt tokens",
      fmt::format("{:.0f}, {:.1f} % from the prefix cache", report.number({"tokens", "prompt"}),
                  report.number({"tokens", "cached_fraction"}) * 100.0));
  if (report.number({"token_counts", "by_events"}) > 0) {
    add(out, "output tokens",
        fmt::format("counted by events in {} answers: the server did not say, and may send several "
                    "tokens in one",
                    count({"token_counts", "by_events"})));
  }
  if (report.size({"tenants"}) > 1) {
    add(out, "fairness (Jain)",
        fmt::format("{:.3f} by tokens for weight, {:.3f} by share served",
                    report.number({"fairness", "jain_output_tokens"}),
                    report.number({"fairness", "jain_served"})));
  }
  if (report.flag({"server", "available"}) && report.number({"server", "queue_ms_mean"}) >= 0.0) {
    add(out, "queue in the server",
        fmt::format("{:.1f} ms on average", report.number({"server", "queue_ms_mean"})));
  }
  add(out, "this client",
      fmt::format("{:.2f} s of CPU in {:.1f} s, load average {:.1f}",
                  report.number({"run", "client_cpu_s"}), report.number({"run", "wall_s"}),
                  report.number({"run", "load_average"})));
  return out + latencies(report);
}

Result<Comparison> compare_reports(std::string_view a, std::string_view b, double threshold) {
  LATENTD_ASSIGN_OR_RETURN(const ReportReader first, ReportReader::parse(a));
  LATENTD_ASSIGN_OR_RETURN(const ReportReader second, ReportReader::parse(b));
  Comparison comparison;
  std::string& out = comparison.text;
  for (const char* field : {"name", "process", "rate", "seed"}) {
    if (first.text({"scenario", field}) != second.text({"scenario", field})) {
      out += fmt::format("note: scenario.{} differs: {} and {}\n", field,
                         first.text({"scenario", field}), second.text({"scenario", field}));
    }
  }
  out += fmt::format("{:<34}{:>14}{:>14}{:>10}\n", "", "A", "B", "change");
  for (const Figure& figure : figures()) {
    const double x = first.number(figure.path);
    const double y = second.number(figure.path);
    std::string name;
    for (const char* part : figure.path) name += (name.empty() ? "" : ".") + std::string(part);
    double change = 0.0;
    if (x != 0.0) {
      change = (y - x) / x;
    } else if (y != 0.0) {
      change = y > 0.0 ? HUGE_VAL : -HUGE_VAL;
    }
    const char* mark = "";
    if (std::abs(change) > threshold) {
      const bool worse = change * figure.better < 0.0;
      comparison.worse = comparison.worse || worse;
      mark = worse ? "  worse" : "  better";
    }
    const std::string percent =
        std::isinf(change) ? "new" : fmt::format("{:+.1f} %", change * 100.0);
    out += fmt::format("{:<34}{:>14.3f}{:>14.3f}{:>10}{}\n", name, x, y, percent, mark);
  }
  return comparison;
}

}  // namespace latentd::loadtest
