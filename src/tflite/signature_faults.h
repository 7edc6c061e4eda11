// SPDX-License-Identifier: Apache-2.0
// Signatures that name tensors which their graphs do not take or give.
//
// A signature is a list of names for a graph's inputs and outputs
// (SignatureDef of tflite/converter/schema/schema.fbs). Nothing keeps a writer
// from naming an inner tensor. The runtime then reads that tensor's memory,
// which it has meanwhile given to another one, and says nothing; or refuses the
// buffers. ai-edge-quantizer 0.10.0 writes such files: it appends a DEQUANTIZE
// (a Hadamard rotation) behind an output that is also read inside, makes that
// the graph's output and leaves the signature as it was.
//
// Pure.
#ifndef VERIFY_TFLITE_TFLITE_SIGNATURE_FAULTS_H_
#define VERIFY_TFLITE_TFLITE_SIGNATURE_FAULTS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "tflite/container.h"
#include "tflite/interface.h"

namespace verify_tflite {

// One name of a signature that stands for no input (output) of its graph.
struct SignatureFault {
  std::string file;  // path, or "<path>: embedder"
  std::string signature;
  bool is_output = true;
  TensorSpec named;  // as the signature calls it
  size_t tensor = 0;  // its number in the graph
  // The graph's own input (output) that no name stands for and that is
  // computed from `named`: what it most likely was to be. `name` is the
  // tensor's own.
  std::optional<TensorSpec> graphs = std::nullopt;
  size_t graphs_tensor = 0;
  std::string made_by;  // the operator that computes it: "DEQUANTIZE"
};

// Returns those of every signature; `name` names the file in them.
std::vector<SignatureFault> FindSignatureFaults(const tflite::File& file,
                                                const std::string& name);

// Returns those of every .tflite in a bundle, or of a .tflite and the embedders
// that lie beside it. Throws Error when one of them is damaged.
std::vector<SignatureFault> FindSignatureFaults(
    const tflite::Container& container);

// Returns the radians between two neighbouring angles that COS and SIN can get,
// the largest in the file, where these are integers or were (behind a
// DEQUANTIZE); 0 where they are not.
double AngleStep(const tflite::File& file);

}  // namespace verify_tflite

#endif  // VERIFY_TFLITE_TFLITE_SIGNATURE_FAULTS_H_
