// A table of an HTML page, written row by row.
#ifndef VERIFY_TFLITE_REPORT_HTML_TABLE_H_
#define VERIFY_TFLITE_REPORT_HTML_TABLE_H_

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace verify_tflite {

// The content of a cell, as HTML, and its class where that is not the column's.
struct Cell {
  Cell(std::string html) : html(std::move(html)) {}       // NOLINT
  Cell(std::string_view html) : html(html) {}             // NOLINT
  Cell(const char* html) : html(html) {}                  // NOLINT
  Cell(int64_t number) : html(std::to_string(number)) {}  // NOLINT
  Cell(size_t number) : html(std::to_string(number)) {}   // NOLINT
  Cell(std::string html, const char* css) : html(std::move(html)), css(css) {}

  std::string html;
  const char* css = nullptr;
};

class HtmlTable {
 public:
  // How the first cell of a row is marked.
  enum class First { kHead, kPlainHead, kCell };

  // Appends the head of the table, in a box that scrolls sideways, to `out`,
  // which outlives it. A column whose title begins with '#' is of numbers.
  // `style` is an attribute of the box, or empty.
  HtmlTable(const std::vector<std::string>& titles, std::string& out,
            First first = First::kHead, std::string_view style = "")
      : out_(out), first_(first) {
    out_ += fmt::format("<div class=\"scroll\"{}><table><thead><tr>", style);
    for (std::string_view title : titles) {
      numbers_.push_back(title.starts_with('#'));
      if (numbers_.back()) title.remove_prefix(1);
      out_ += fmt::format("<th{}>{}</th>",
                          numbers_.back() ? " class=\"n\"" : "", title);
    }
    out_ += "</tr></thead><tbody>\n";
  }
  HtmlTable(const HtmlTable&) = delete;
  HtmlTable& operator=(const HtmlTable&) = delete;
  ~HtmlTable() { out_ += "</tbody></table></div>\n"; }

  // Adds a line over all columns, above the rows of a group.
  void Group(std::string_view title) {
    out_ += fmt::format(
        "<tr class=\"group\"><th colspan=\"{}\" scope=\"rowgroup\">{}</th>"
        "</tr>\n",
        numbers_.size(), title);
  }

  // Adds a row with a cell for each column.
  void Row(const std::vector<Cell>& cells) { AddRow("<tr>", cells); }
  void Row(const char* css, const std::vector<Cell>& cells) {
    AddRow(fmt::format("<tr class=\"{}\">", css), cells);
  }

  // Adds a row whose last cell, `rest`, takes all columns that are left.
  void ShortRow(const char* css, const std::vector<Cell>& cells,
                std::string_view rest) {
    AddRow(fmt::format("<tr class=\"{}\">", css), cells,
           fmt::format("<td colspan=\"{}\">{}</td>",
                       numbers_.size() - cells.size(), rest));
  }

 private:
  void AddRow(std::string_view begin, const std::vector<Cell>& cells,
              std::string_view end = "") {
    out_ += begin;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i == 0 && first_ != First::kCell) {
        out_ += fmt::format("<th{}>{}</th>",
                            first_ == First::kHead ? " scope=\"row\"" : "",
                            cells[i].html);
        continue;
      }
      const char* css = cells[i].css;
      if (css == nullptr && numbers_[i]) css = "n";
      out_ += css == nullptr
                  ? fmt::format("<td>{}</td>", cells[i].html)
                  : fmt::format("<td class=\"{}\">{}</td>", css, cells[i].html);
    }
    out_ += end;
    out_ += "</tr>\n";
  }

  std::string& out_;
  First first_;
  std::vector<bool> numbers_;
};

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_TABLE_H_
