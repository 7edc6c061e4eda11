// The style sheet of the HTML report.
#ifndef VERIFY_TFLITE_REPORT_HTML_STYLE_H_
#define VERIFY_TFLITE_REPORT_HTML_STYLE_H_

namespace verify_tflite {

// style.css, as it was when this was built. Contrast of text on its background
// is 4.5 or more in both schemes. Blue and orange are told apart with any
// colour vision; outcomes have words and signs.
extern const char* const kHtmlStyle;

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_HTML_STYLE_H_
