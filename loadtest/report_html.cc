#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "loadtest/report.h"
#include "loadtest/report_reader.h"
#include "loadtest/svg_plot.h"

namespace latentd::loadtest {
namespace {

constexpr const char* kHead = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{0}</title><style>
:root{{--ink:#1a1a1a;--soft:#555;--paper:#fff;--line:#ddd;--grid:#eee;--bad:#b00020}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e6e6e6;--soft:#a8a8a8;--paper:#16181b;
--line:#3a3d42;--grid:#2a2d31;--bad:#ff6b7a}}}}
body{{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1200px;
margin:2rem auto;padding:0 1rem}}
h1{{font-size:1.5rem;margin-bottom:.2rem}}h2{{font-size:1.1rem;margin:1.6rem 0 .4rem}}
.note{{color:var(--soft);margin-top:0}}.cards{{display:flex;flex-wrap:wrap;gap:12px;margin:1rem 0}}
.card{{border:1px solid var(--line);border-radius:6px;padding:8px 14px;min-width:130px}}
.card b{{display:block;font-size:1.35rem}}.card span{{color:var(--soft);font-size:.85rem}}
table{{border-collapse:collapse}}th,td{{padding:3px 12px;text-align:right;
border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}}
th:first-child,td:first-child{{text-align:left}}
.plots{{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:18px}}
svg{{width:100%;border:1px solid var(--line);border-radius:6px}}
svg text{{font:11px system-ui,sans-serif;fill:var(--soft)}}svg text[fill]{{fill:revert-layer}}
svg .title{{font-weight:600;font-size:13px;fill:var(--ink)}}.grid{{stroke:var(--grid)}}
.shade{{fill:var(--soft);opacity:.1}}.limit{{stroke:var(--bad);stroke-dasharray:5 4}}
.bad{{color:var(--bad)}}
</style></head><body><h1>{0}</h1><p class="note">{1}</p>
)html";

std::string card(const std::string& value, const std::string& name, bool bad = false) {
  return fmt::format("<div class=\"card\"><b{}>{}</b><span>{}</span></div>\n",
                     bad ? " class=\"bad\"" : "", escape_html(value), escape_html(name));
}

std::string headline(const ReportReader& report) {
  const std::string process = report.text({"scenario", "process"});
  std::string load;
  if (process == "closed") {
    load = report.text({"scenario", "concurrency"}) + " users in a closed loop";
  } else if (process == "trace") {
    load = "replay of " + report.text({"scenario", "trace"}) + ", " +
           report.text({"scenario", "time_scale"}) + " times as fast";
  } else {
    load = process + " arrivals at " + report.text({"scenario", "rate"}) + " requests/s";
  }
  return fmt::format(
      "{}; {} API of {}:{}; {:.0f} s, of which {:.0f} s warm-up; seed {}; load "
      "average at the end {:.1f}",
      load, report.text({"target", "api"}), report.text({"target", "host"}),
      report.text({"target", "port"}), report.number({"run", "wall_s"}),
      report.number({"scenario", "warmup_s"}), report.text({"scenario", "seed"}),
      report.number({"run", "load_average"}));
}

std::string cards(const ReportReader& report) {
  const auto value = [&report](const char* format, const ReportReader::Path& path,
                               double factor = 1.0) {
    return fmt::format(fmt::runtime(format), report.number(path) * factor);
  };
  const bool failures = report.number({"requests", "failed"}) > 0;
  std::string out = "<div class=\"cards\">\n";
  out += card(value("{:.2f}", {"throughput", "requests_per_s"}), "requests/s");
  out += card(value("{:.0f}", {"throughput", "output_tokens_per_s"}), "output tokens/s");
  if (report.flag({"goodput", "slo_given"})) {
    out += card(value("{:.1f} %", {"goodput", "fraction"}, 100.0), "within the SLO");
  }
  out += card(value("{:.0f}", {"requests", "completed"}), "completed");
  out += card(value("{:.0f}", {"requests", "failed"}), "failed", failures);
  out += card(value("{:.1f} %", {"tokens", "cached_fraction"}, 100.0), "of prompts cached");
  if (report.size({"tenants"}) > 1) {
    out += card(value("{:.3f}", {"fairness", "jain_output_tokens"}), "Jain fairness");
  }
  if (report.flag({"server", "available"}) && report.number({"server", "queue_ms_mean"}) >= 0.0) {
    out += card(value("{:.1f} ms", {"server", "queue_ms_mean"}), "mean queue in the server");
  }
  out += card(value("{:.2f} ms", {"latency_ms", "client_lag", "p99"}), "p99 client lag");
  return out + "</div>\n";
}

std::string latency_table(const ReportReader& report) {
  constexpr std::array kColumns = {"mean", "p50", "p90", "p95", "p99", "p99.9", "max"};
  std::string out = "<h2>Latency, ms</h2>\n<table><tr><th></th>";
  for (const char* column : kColumns) out += fmt::format("<th>{}</th>", column);
  out += "</tr>\n";
  for (const auto& [key, name] :
       {std::pair{"ttft", "time to first token"}, std::pair{"itl", "between tokens"},
        std::pair{"tpot", "per output token"}, std::pair{"e2e", "whole request"},
        std::pair{"client_lag", "client lag"}}) {
    out += fmt::format("<tr><td>{}</td>", name);
    for (const char* column : kColumns) {
      out += fmt::format("<td>{:.2f}</td>", report.number({"latency_ms", key, column}));
    }
    out += "</tr>\n";
  }
  return out + "</table>\n";
}

std::string tenant_table(const ReportReader& report) {
  if (report.size({"tenants"}) < 2) return "";
  std::string out = "<h2>Tenants</h2>\n<table><tr>";
  const std::vector<std::pair<const char*, ReportReader::Path>> heads = {
      {"tenant", {"name"}},
      {"weight", {"weight"}},
      {"sent", {"sent"}},
      {"completed", {"completed"}},
      {"cancelled", {"cancelled"}},
      {"failed", {"failed"}},
      {"output tokens", {"output_tokens"}},
      {"first token p50, ms", {"ttft_ms", "p50"}},
      {"p99, ms", {"ttft_ms", "p99"}}};
  std::vector<std::vector<std::string>> columns;
  for (const auto& [head, path] : heads) {
    out += fmt::format("<th>{}</th>", head);
    columns.push_back(report.column("tenants", path));
    if (path.front() != std::string_view("ttft_ms")) continue;
    for (std::string& value : columns.back()) {
      value = fmt::format("{:.2f}", std::strtod(value.c_str(), nullptr));
    }
  }
  out += "</tr>\n";
  for (std::size_t row = 0; row < columns.front().size(); ++row) {
    out += "<tr>";
    for (const auto& column : columns) {
      out += fmt::format("<td>{}</td>", escape_html(column[row]));
    }
    out += "</tr>\n";
  }
  return out + "</table>\n";
}

std::string error_table(const ReportReader& report) {
  const auto errors = report.counts("errors");
  if (errors.empty()) return "";
  std::string out = "<h2>Failures</h2>\n<table>\n";
  for (const auto& [kind, count] : errors) {
    out += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_html(kind), count);
  }
  return out + "</table>\n";
}

Series pairs(const std::string& name, const std::vector<std::vector<double>>& rows,
             std::size_t column, bool index_is_x = false) {
  Series series;
  series.name = name;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].size() <= column) continue;
    series.points.emplace_back(index_is_x ? static_cast<double>(i) : rows[i][0], rows[i][column]);
  }
  return series;
}

std::string percentile_plot(const ReportReader& report) {
  PlotOptions options{"Latency by percentile", "percentile", "ms", true};
  options.x_ticks = {{0, "0"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}, {5, "99.999"}};
  return svg_plot(options, {pairs("first token", report.rows({"percentiles", "ttft"}), 1),
                            pairs("between tokens", report.rows({"percentiles", "itl"}), 1),
                            pairs("whole", report.rows({"percentiles", "e2e"}), 1)});
}

std::string sample_plot(const ReportReader& report) {
  const std::vector<std::string> names = report.column("tenants", {"name"});
  std::vector<Series> all(std::max<std::size_t>(1, names.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].dots = true;
    if (names.size() > 1) all[i].name = names[i];
  }
  for (const std::vector<double>& row : report.rows({"samples"})) {
    if (row.size() < 3) continue;
    const auto tenant = static_cast<std::size_t>(row[2]);
    if (tenant < all.size()) all[tenant].points.emplace_back(row[0], row[1]);
  }
  PlotOptions options{"Time to first token of each request", "meant to be sent at, s", "ms", true};
  const double limit = report.number({"scenario", "slo", "ttft_ms"});
  if (limit > 0.0) options.y_lines = {{limit, "SLO"}};
  return svg_plot(options, all);
}

std::string plots(const ReportReader& report) {
  const auto seconds = report.rows({"seconds"});
  const auto over_time = [&report](const char* title, const char* y_label) {
    PlotOptions options{title, "s", y_label, false};
    options.shaded_to = report.number({"scenario", "warmup_s"});
    return options;
  };
  std::string out = "<h2>Plots</h2>\n<div class=\"plots\">\n";
  out += percentile_plot(report);
  out += sample_plot(report);
  out += svg_plot(over_time("Requests", "a second"),
                  {pairs("sent", seconds, 0, true), pairs("ended", seconds, 1, true),
                   pairs("failed", seconds, 2, true)});
  out += svg_plot(over_time("Output tokens", "a second"), {pairs("", seconds, 3, true)});
  const auto gauges = report.rows({"server", "samples"});
  if (!gauges.empty()) {
    out += svg_plot(over_time("Requests in the server", ""),
                    {pairs("running", gauges, 1), pairs("waiting", gauges, 2)});
    out += svg_plot(over_time("Cache in use", "share"), {pairs("", gauges, 3)});
  }
  return out + "</div>\n";
}

}  // namespace

Result<std::string> html_report(std::string_view json) {
  LATENTD_ASSIGN_OR_RETURN(const ReportReader report, ReportReader::parse(json));
  const std::string title = "Load test: " + report.text({"scenario", "name"});
  std::string page =
      fmt::format(fmt::runtime(kHead), escape_html(title), escape_html(headline(report)));
  page += cards(report) + latency_table(report) + tenant_table(report) + error_table(report) +
          plots(report);
  page +=
      "<p class=\"note\">Latencies count from the moment a request was meant to be sent. Requests "
      "meant for the warm-up (shaded) are left out of all figures but the curves over time. "
      "Quantiles are exact to 0.4 %.</p>\n</body></html>\n";
  return page;
}

}  // namespace latentd::loadtest
