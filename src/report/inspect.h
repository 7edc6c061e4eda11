// Writes what is in a file or a checkpoint, as text for people and as JSON.
#ifndef VERIFY_TFLITE_REPORT_INSPECT_H_
#define VERIFY_TFLITE_REPORT_INSPECT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "candidate/model.h"
#include "tflite/bundle.h"
#include "tflite/executor_metadata.h"
#include "tflite/summary.h"

namespace verify_tflite {

// A signature that makes embeddings of tokens.
struct InspectedEmbedding {
  std::string signature;
  int64_t tokens = 0;          // how many it takes
  std::vector<int64_t> shape;  // of what it makes of one
};

// One TFLite model: the file itself or a section of a bundle.
struct InspectedModel {
  std::string model_type;  // "prefill_decode", …; empty for a .tflite
  std::optional<tflite::Summary> file;
  std::string damage;  // why `file` could not be read
  // How this program reads it; only of the model that it would run.
  std::optional<ModelInfo> llm;
  // Of `llm`: its layers, which may be more than have KV caches; 0: not known.
  int64_t layers = 0;
  std::string unsupported;  // why it would not; empty where not asked
  // Of a model that does nothing else, by descending number of tokens.
  std::vector<InspectedEmbedding> embeddings;
};

struct InspectedSection {
  std::string type;
  uint64_t begin = 0;
  uint64_t end = 0;
  std::vector<KeyValue> items;
};

struct InspectedBundle {
  std::string version;  // of a .litertlm; empty for a .task
  std::vector<KeyValue> system_metadata;
  std::vector<InspectedSection> sections;
  std::optional<LlmMetadata> llm_metadata;
  std::optional<ExecutorMetadata> executor_metadata;
  // "Hugging Face tokenizer.json, 2104556 bytes", …
  std::string tokenizer;
};

struct InspectedCheckpoint {
  std::string model_type;
  // The numbers that make the architecture, as JSON.
  std::vector<KeyValue> config;
  int64_t parameters = 0;
  std::map<std::string, int64_t> tensor_bytes;  // by dtype
  int64_t tensors = 0;
  std::string tokenizer;      // its kind
  std::string chat_template;  // where it stands, or "none"
  std::vector<int32_t> eos_ids;
  std::vector<std::string> unsupported;  // what cannot be verified, and why
  std::vector<std::string> notes;        // what decides nothing
};

struct Inspection {
  std::string path;
  std::string kind;  // ".tflite", ".litertlm", ".task", "checkpoint"
  int64_t bytes = 0;
  std::optional<InspectedBundle> bundle;
  std::vector<InspectedModel> models;
  std::optional<InspectedCheckpoint> checkpoint;
};

// It is raised when a field changes its meaning or goes; new fields do not
// raise it.
inline constexpr int kInspectSchemaVersion = 2;

// Returns tables that fit 100 columns, but for names longer than that.
std::string InspectionReport(const Inspection& inspection);

// Returns JSON, pretty-printed, ending in a newline. Its format is in
// docs/inspect.md.
std::string InspectionJson(const Inspection& inspection);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_REPORT_INSPECT_H_
