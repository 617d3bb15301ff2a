#include "loadtest/svg_plot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

namespace latentd::loadtest {
namespace {

constexpr double kWidth = 560, kHeight = 300;
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 46;
// Okabe and Ito's colours, told apart by most eyes.
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

std::string number(double value) {
  if (std::abs(value) >= 1e6) return fmt::format("{:.3g}M", value * 1e-6);
  if (std::abs(value) >= 1e4) return fmt::format("{:.3g}k", value * 1e-3);
  return fmt::format("{:.4g}", value);
}

struct Axis {
  double low = 0.0, high = 1.0;
  bool log = false;

  // 0 to 1 along the axis.
  double place(double value) const {
    if (!log) return (value - low) / (high - low);
    return std::log(std::max(value, low) / low) / std::log(high / low);
  }
  std::vector<double> ticks() const {
    std::vector<double> values;
    if (log) {
      const double last = std::log10(high * 1.001);
      for (auto power = static_cast<int>(std::ceil(std::log10(low) - 1e-9)); power <= last;
           ++power) {
        values.push_back(std::pow(10.0, power));
      }
      return values;
    }
    const double raw = (high - low) / 5.0;
    const double magnitude = std::pow(10.0, std::floor(std::log10(raw)));
    double step = magnitude;
    for (const double factor : {2.0, 5.0, 10.0}) {
      if (step < raw) step = magnitude * factor;
    }
    const double last = high / step + 1e-6;
    for (auto count = static_cast<std::int64_t>(std::ceil(low / step));
         static_cast<double>(count) <= last; ++count) {
      values.push_back(static_cast<double>(count) * step);
    }
    return values;
  }
};

Axis axis_of(const std::vector<Series>& all, bool use_y, bool log) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Series& series : all) {
    for (const auto& [x, y] : series.points) {
      const double value = use_y ? y : x;
      if (log && value <= 0.0) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  Axis axis;
  axis.log = log;
  if (low > high) {
    axis.low = log ? 1.0 : 0.0;
    axis.high = log ? 10.0 : 1.0;
  } else if (log) {
    axis.low = std::pow(10.0, std::floor(std::log10(low)));
    axis.high = std::pow(10.0, std::ceil(std::log10(high)));
    if (axis.low == axis.high) axis.high *= 10.0;
  } else {
    axis.low = std::min(low, 0.0);
    axis.high = use_y ? high * 1.05 : high;
    if (axis.high <= axis.low) axis.high = axis.low + 1.0;
  }
  return axis;
}

double to_x(const Axis& axis, double value) {
  return kLeft + axis.place(value) * (kWidth - kLeft - kRight);
}
double to_y(const Axis& axis, double value) {
  return kHeight - kBottom - axis.place(value) * (kHeight - kTop - kBottom);
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)", x, y, anchor,
                     escape_html(text));
}

std::string frame(const PlotOptions& options, const Axis& x_axis, const Axis& y_axis) {
  std::string out;
  for (const double tick : y_axis.ticks()) {
    const double y = to_y(y_axis, tick);
    out += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft,
                       kWidth - kRight, y, y);
    out += text_at(kLeft - 6, y + 4, "end", number(tick));
  }
  auto x_ticks = options.x_ticks;
  if (x_ticks.empty()) {
    for (const double tick : x_axis.ticks()) x_ticks.emplace_back(tick, number(tick));
  }
  for (const auto& [tick, label] : x_ticks) {
    if (tick > x_axis.high * 1.0001) continue;
    const double x = to_x(x_axis, tick);
    out += fmt::format(R"(<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>)", x, x,
                       kTop, kHeight - kBottom);
    out += text_at(x, kHeight - kBottom + 16, "middle", label);
  }
  if (options.shaded_to > x_axis.low) {
    out += fmt::format(R"(<rect class="shade" x="{}" y="{}" width="{:.1f}" height="{}"/>)", kLeft,
                       kTop, to_x(x_axis, std::min(options.shaded_to, x_axis.high)) - kLeft,
                       kHeight - kTop - kBottom);
  }
  for (const auto& [value, label] : options.y_lines) {
    if (value < y_axis.low || value > y_axis.high) continue;
    const double y = to_y(y_axis, value);
    out += fmt::format(R"(<line class="limit" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft,
                       kWidth - kRight, y, y);
    out += text_at(kWidth - kRight - 4, y < kTop + 14 ? y + 13 : y - 4, "end", label);
  }
  out += fmt::format(R"(<text class="title" x="{}" y="18">{}</text>)", kLeft,
                     escape_html(options.title));
  out += text_at((kLeft + kWidth - kRight) / 2, kHeight - 10, "middle", options.x_label);
  out += fmt::format(
      R"svg(<text transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>)svg",
      (kTop + kHeight - kBottom) / 2, escape_html(options.y_label));
  return out;
}

std::string draw(const Series& series, const Axis& x_axis, const Axis& y_axis, const char* colour) {
  std::string out;
  if (series.dots) {  // one path of points without length, whose round ends are the dots
    out = fmt::format(
        R"(<path fill="none" stroke="{}" stroke-width="3" stroke-linecap="round" d=")", colour);
    for (const auto& [x, y] : series.points) {
      out += fmt::format("M{:.1f} {:.1f}h0", to_x(x_axis, x), to_y(y_axis, y));
    }
    return out + "\"/>";
  }
  out = fmt::format(R"(<polyline fill="none" stroke="{}" stroke-width="1.6" points=")", colour);
  for (const auto& [x, y] : series.points) {
    out += fmt::format("{:.1f},{:.1f} ", to_x(x_axis, x), to_y(y_axis, y));
  }
  return out + "\"/>";
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string svg_plot(const PlotOptions& options, const std::vector<Series>& series) {
  const Axis x_axis = axis_of(series, false, false);
  const Axis y_axis = axis_of(series, true, options.log_y);
  std::string out = fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth,
                                kHeight, escape_html(options.title));
  out += frame(options, x_axis, y_axis);
  double legend = kWidth - kRight;
  for (std::size_t i = series.size(); i-- > 0;) {
    const char* colour = kColours[i % kColours.size()];
    out += draw(series[i], x_axis, y_axis, colour);
    if (series[i].name.empty()) continue;
    out += fmt::format(R"(<text x="{:.0f}" y="18" text-anchor="end" fill="{}">{}</text>)", legend,
                       colour, escape_html(series[i].name));
    legend -= 14.0 + 6.6 * static_cast<double>(series[i].name.size());
  }
  return out + "</svg>\n";
}

}  // namespace latentd::loadtest
