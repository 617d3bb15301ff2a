// SvgPlot: a small chart as inline SVG: lines or points over linear or logarithmic axes.
//
// Contract: pure; the text stands alone inside an HTML page, without scripts and outside assets.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace latentd::loadtest {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
  bool dots = false;  // points instead of a line
};

struct PlotOptions {
  std::string title, x_label, y_label;
  bool log_y = false;
  // Ticks of the x axis; empty: chosen.
  std::vector<std::pair<double, std::string>> x_ticks = {};
  std::vector<std::pair<double, std::string>> y_lines = {};  // limits, dashed, with their names
  double shaded_to = 0.0;                                    // from the left, as a warm-up
};

std::string svg_plot(const PlotOptions& options, const std::vector<Series>& series);

// Text for HTML: & < > " escaped.
std::string escape_html(const std::string& text);

}  // namespace latentd::loadtest
