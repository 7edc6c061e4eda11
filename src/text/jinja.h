// Calls llama.cpp's Jinja engine (common/jinja). It is an internal part of that
// project, so only jinja.cc includes its headers.
#ifndef VERIFY_TFLITE_TEXT_JINJA_H_
#define VERIFY_TFLITE_TEXT_JINJA_H_

#include <map>
#include <span>
#include <string>

#include "text/chat_template.h"

namespace verify_tflite {

// Both throw an exception derived from std::exception that says what is wrong
// with the template and where. Both recurse as deep as the template does and
// run as long as it does: call them through RunInLimitedChild.

void ParseJinja(const std::string& source);

// Renders `messages`, with the generation prompt added unless the last one is
// to be continued, and no documents, under the names by which transformers
// hands them to a template. `options.form` must be given. A prompt to be
// continued is cut after the last message's content as transformers does
// (render_jinja_template).
std::string RenderJinja(const std::string& source,
                        const std::map<std::string, std::string>& variables,
                        std::span<const ChatMessage> messages,
                        const RenderOptions& options);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TEXT_JINJA_H_
