// The audit of a whole model: its file, and the embedder it needs.
#ifndef VERIFY_TFLITE_AUDIT_AUDIT_FILE_H_
#define VERIFY_TFLITE_AUDIT_AUDIT_FILE_H_

#include <deque>
#include <string>
#include <vector>

#include "audit/weight_audit.h"
#include "base/mapped_file.h"
#include "checkpoint/checkpoint.h"

namespace verify_tflite {

// The files of one model, and the parts of them to audit: the model's, and
// those of embedders behind it.
struct AuditInputs {
  std::deque<MappedFile> files;
  std::vector<AuditInput> parts;
};

// `path` is a .tflite, a .litertlm or a .task; embedders are sections of a
// bundle, or lie beside a .tflite under the names that the converter gives
// them. Throws Error when a file is none of these or damaged.
AuditInputs OpenAuditInputs(const std::string& path);
WeightAudit AuditFile(const std::string& path, const Checkpoint& checkpoint,
                      int num_threads);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_AUDIT_AUDIT_FILE_H_
