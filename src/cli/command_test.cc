// The command as a user runs it: output, exit codes, and bad input, each with
// one clear message.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/testing.h"
#include "base/testing_zip.h"

namespace verify_tflite {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct RunResult {
  int code = -1;
  std::string out;
  std::string err;
};

// Runs the built command; `environment` entries ("NAME=value") are added.
RunResult RunCommand(std::vector<std::string> arguments,
                     const std::vector<std::string>& environment = {}) {
  const TempDir dir;
  const std::string out = dir.File("out");
  const std::string err = dir.File("err");
  arguments.insert(arguments.begin(), BuiltPath("verify_tflite"));
  const pid_t child = fork();
  if (child == 0) {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    dup2(open(out.c_str(), flags, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), flags, 0600), STDERR_FILENO);
    for (const std::string& entry : environment) {
      putenv(const_cast<char*>(entry.c_str()));
    }
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
          ReadFile(out), ReadFile(err)};
}

RunResult RunTiny(std::vector<std::string> arguments,
                  const std::string& file = "tiny_f32.tflite") {
  arguments.push_back("--tflite_path=" + ModelPath(file));
  arguments.push_back("--checkpoint_path=" + ModelPath("tiny"));
  return RunCommand(std::move(arguments));
}

// One line on standard error, nothing on standard output, exit code 2.
void ExpectRefused(const RunResult& run, const std::string& message) {
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err,
              AllOf(StartsWith("verify_tflite: error: "), HasSubstr(message)));
  EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
}

// A copy of the tiny checkpoint to be damaged.
std::string CopyCheckpoint(const TempDir& dir) {
  const std::string copy = dir.File("checkpoint");
  fs::copy(ModelPath("tiny"), copy, fs::copy_options::recursive);
  return copy;
}

void EditConfig(const std::string& checkpoint, const std::string& key,
                const nlohmann::json& value) {
  const std::string path = checkpoint + "/config.json";
  auto config = nlohmann::json::parse(ReadFile(path));
  config[key] = value;
  WriteFile(path, config.dump());
}

RunResult RunAgainst(const std::string& checkpoint) {
  return RunCommand({"--tflite_path=" + ModelPath("tiny_f32.tflite"),
                     "--checkpoint_path=" + checkpoint});
}

RunResult RunFile(const std::string& tflite) {
  return RunCommand(
      {"--tflite_path=" + tflite, "--checkpoint_path=" + ModelPath("tiny")});
}

TEST(Command, ASoundConversionPasses) {
  const RunResult run = RunTiny({"--max_new_tokens=12"});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("Prompt 1 of 2: \"What is AI?\""),
                    HasSubstr("First 10 tokens match: 10/10 ✓"),
                    HasSubstr("KL divergence: mean"), HasSubstr("peak memory"),
                    HasSubstr("\n✓ ALL TESTS PASSED: ")));
}

TEST(Command, AWrongConversionFailsAndShowsTheFirstDifference) {
  const RunResult run = RunTiny({}, "tiny_wrong_rope.tflite");
  EXPECT_EQ(run.code, 1) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("[≠]"), HasSubstr("PyTorch's margin"),
                             HasSubstr("\n  0 of 2 prompts passed\n"),
                             HasSubstr("\n✗ BROKEN: ")));
}

TEST(Command, QuietPrintsTheVerdictOnly) {
  const std::string out = RunTiny({"--quiet"}).out;
  EXPECT_THAT(out, StartsWith("✓ ALL TESTS PASSED: "));
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << out;
}

TEST(Command, WritesJson) {
  const TempDir dir;
  const std::string path = dir.File("result.json");
  const RunResult run = RunTiny(
      {"--json=" + path, "--prompts=One", "--prompts=Two", "--prompts=Three"});
  EXPECT_EQ(run.code, 0) << run.err;
  const auto json = nlohmann::json::parse(ReadFile(path));
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["prompts"].size(), 3u);
  EXPECT_EQ(json["prompts"][2]["prompt"], "Three");
  EXPECT_EQ(json["prompts"][0]["positions"].size(),
            json["prompts"][0]["reference_ids"].size());
}

TEST(Command, WritesEveryReportAndJudgesItAgain) {
  const TempDir dir;
  const std::string json = dir.File("r.json");
  const std::string html = dir.File("r.html");
  const RunResult run = RunTiny({"--json=" + json, "--html=" + html,
                                 "--junit=" + dir.File("r.xml"),
                                 "--markdown=" + dir.File("r.md")});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(ReadFile(html), EndsWith("</html>\n"));
  EXPECT_THAT(ReadFile(dir.File("r.xml")), EndsWith("</testsuites>\n"));
  EXPECT_THAT(ReadFile(dir.File("r.md")), StartsWith("### ✅ Passed"));
  const auto environment = nlohmann::json::parse(ReadFile(json))["environment"];
  EXPECT_THAT(environment["command"].get<std::string>(),
              AllOf(HasSubstr("--tflite_path="), HasSubstr("--html=")));
  EXPECT_THAT(environment["litert_version"].get<std::string>(),
              StartsWith("2."));
  EXPECT_THAT(environment["torch_version"].get<std::string>(),
              StartsWith("2."));
  EXPECT_GE(environment["files"].size(), 4u);

  const std::string again = dir.File("again.json");
  EXPECT_EQ(RunCommand({"recheck", json, "--json=" + again}).out, run.out);
  EXPECT_EQ(ReadFile(again), ReadFile(json));
  EXPECT_EQ(RunCommand({"recheck", json, "--max_kld=1e-30"}).code, 1);
  ExpectRefused(RunCommand({"recheck", html}), "is a web page");
  ExpectRefused(RunCommand({"recheck", dir.File("none.json")}), "none.json");
}

TEST(Command, ExplainsFindings) {
  EXPECT_THAT(RunCommand({"explain", "mask"}).out,
              AllOf(StartsWith("mask\n"), HasSubstr("What to do")));
  EXPECT_THAT(RunCommand({"explain"}).out, HasSubstr("stop-token-differs"));
  ExpectRefused(RunCommand({"explain", "maks"}), "do you mean mask?");
}

TEST(Command, MaxKldDecides) {
  EXPECT_EQ(RunTiny({"--max_kld=1e-30"}).code, 1);
  EXPECT_EQ(RunTiny({"--max_kld=0.001"}, "tiny_q8.tflite").code, 1);
  EXPECT_EQ(RunTiny({"--max_kld=0.2"}, "tiny_q8.tflite").code, 0);
  // A fault that has a name is none that may be allowed.
  const RunResult eps =
      RunTiny({"--max_kld=5", "--tolerance=100"}, "tiny_wrong_eps.tflite");
  EXPECT_EQ(eps.code, 1);
  EXPECT_THAT(eps.out, HasSubstr("norm-eps (broken)"));
}

TEST(Command, AWeightFileServesAsCheckpoint) {
  const RunResult run = RunAgainst(ModelPath("tiny") + "/model.safetensors");
  EXPECT_EQ(run.code, 0) << run.err;
}

TEST(Command, BadFlags) {
  ExpectRefused(RunCommand({}), "--tflite_path is required");
  ExpectRefused(RunTiny({"--max_new_tokens=-1"}), "max_new_tokens");
  ExpectRefused(RunTiny({"--prompts=b\xFF"}), "not UTF-8");
  ExpectRefused(RunTiny({"--prompts_file=/no/such/file"}), "No such file");
  ExpectRefused(RunTiny({"--chat_template=/no/such/file"}), "No such file");
  ExpectRefused(RunTiny({"--json=/no/such/folder/result.json"}),
                "cannot write");
}

TEST(Command, APromptThatDoesNotFitTheKvCache) {
  std::string words;
  for (int i = 0; i < 300; ++i) words += " word";
  ExpectRefused(RunTiny({"--prompts=" + words}), "KV cache");
}

TEST(Command, BadTflite) {
  const TempDir dir;
  const std::string good = ReadFile(ModelPath("tiny_f32.tflite"));
  std::string noise(100000, '\0');
  std::minstd_rand random(1);
  for (char& c : noise) c = static_cast<char>(random());
  ExpectRefused(RunFile(dir.File("absent.tflite")), "No such file");
  ExpectRefused(RunFile(dir.path()), "is a directory");
  ExpectRefused(RunFile(dir.Write("empty.tflite", "")), "is empty");
  ExpectRefused(RunFile(dir.Write("noise.tflite", noise)), "noise.tflite");
  ExpectRefused(RunFile(dir.Write("text.tflite", "not a model")),
                "text.tflite");
  for (const double share : {0.001, 0.1, 0.5, 0.999}) {
    const auto size =
        static_cast<size_t>(share * static_cast<double>(good.size()));
    ExpectRefused(RunFile(dir.Write("cut.tflite", good.substr(0, size))),
                  "cut.tflite");
  }
}

TEST(Command, ATfliteThatIsNoLanguageModel) {
  ExpectRefused(RunFile(ModelPath("linear.tflite")), "no signature \"decode\"");
}

TEST(Command, MissingPartsOfACheckpoint) {
  ExpectRefused(RunAgainst("/no/such/checkpoint"), "/no/such/checkpoint");
  for (const char* name :
       {"config.json", "tokenizer.json", "model.safetensors"}) {
    const TempDir dir;
    const std::string checkpoint = CopyCheckpoint(dir);
    fs::remove(checkpoint + "/" + name);
    ExpectRefused(RunAgainst(checkpoint), name);
  }
}

TEST(Command, DamagedWeights) {
  const TempDir dir;
  const std::string checkpoint = CopyCheckpoint(dir);
  const std::string path = checkpoint + "/model.safetensors";
  const std::string good = ReadFile(path);
  for (const size_t size : {size_t{4}, size_t{100}, good.size() - 1}) {
    WriteFile(path, good.substr(0, size));
    ExpectRefused(RunAgainst(checkpoint), "model.safetensors");
  }
  WriteFile(path, std::string(8, '\xFF') + good.substr(8));
  ExpectRefused(RunAgainst(checkpoint), "model.safetensors");
}

TEST(Command, AConfigThatDoesNotFit) {
  const TempDir dir;
  const std::string checkpoint = CopyCheckpoint(dir);
  EditConfig(checkpoint, "num_hidden_layers", 3);
  ExpectRefused(RunAgainst(checkpoint), "layers");
  EditConfig(checkpoint, "num_hidden_layers", 4);
  EditConfig(checkpoint, "hidden_size", 128);
  ExpectRefused(RunAgainst(checkpoint), "128");
  EditConfig(checkpoint, "hidden_size", 64);
  EditConfig(checkpoint, "model_type", "mamba");
  ExpectRefused(RunAgainst(checkpoint),
                "model_type \"mamba\" is not supported; supported: llama");
}

TEST(Command, BundlesAreRunAndTheirPartsCompared) {
  const auto run = [](const char* name) {
    return RunCommand({"--tflite_path=" + ModelPath(name),
                       "--checkpoint_path=" + ModelPath("tiny"),
                       "--max_new_tokens=5", "--quiet"});
  };
  const RunResult good = run("tiny_bundle.litertlm");
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, StartsWith("✓ ALL TESTS PASSED"));
  const RunResult bad = run("tiny_bundle_wrong_stop.litertlm");
  EXPECT_EQ(bad.code, 1) << bad.err;
  EXPECT_THAT(bad.out, StartsWith("✗ BROKEN: The bundle goes on where the "
                                  "checkpoint ends its text."));
}

// The tiny model with Llama 2's tokenizer.model, which a .task needs.
std::string SentencePieceCheckpoint(const TempDir& dir) {
  const std::string directory = dir.File("checkpoint");
  fs::create_directory(directory);
  for (const char* name :
       {"config.json", "generation_config.json", "model.safetensors"}) {
    fs::create_symlink(ModelPath("tiny") + "/" + name, directory + "/" + name);
  }
  fs::copy(ModelPath("llama2_model_legacy"), directory);
  WriteFile(directory + "/chat_template.jinja",
            "<s>{% for m in messages %}### {{ m.role | title }}:\n"
            "{{ m.content }}\n{% endfor %}### Assistant:{{ '\n' }}");
  return directory;
}

TEST(Command, TaskFilesLikewise) {
  const TempDir dir;
  const std::string checkpoint = SentencePieceCheckpoint(dir);
  const auto run = [&](const char* name) {
    return RunCommand({"--tflite_path=" + ModelPath(name),
                       "--checkpoint_path=" + checkpoint, "--max_new_tokens=5",
                       "--quiet"});
  };
  for (const char* name : {"tiny.task", "tiny_embedder.task"}) {
    const RunResult good = run(name);
    EXPECT_EQ(good.code, 0) << good.out << good.err;
    EXPECT_THAT(good.out, StartsWith("✓ ALL TESTS PASSED"));
  }
  const RunResult bad = run("tiny_wrong_tokenizer.task");
  EXPECT_EQ(bad.code, 1) << bad.err;
  EXPECT_THAT(bad.out, StartsWith("✗ BROKEN: The bundle's tokenizer differs"));
}

TEST(Command, DamagedPartsOfATaskFile) {
  const TempDir dir;
  ZipOptions aligned;
  aligned.alignment = 4;
  const std::string model = ReadFile(ModelPath("tiny_f32.tflite"));
  const auto run = [&](const std::string& tokenizer,
                       const std::string& metadata) {
    return RunCommand(
        {"--tflite_path=" +
             dir.Write("a.task", MakeZip({{"TF_LITE_PREFILL_DECODE", model},
                                          {"TOKENIZER_MODEL", tokenizer},
                                          {"METADATA", metadata}},
                                         aligned)),
         "--checkpoint_path=" + ModelPath("tiny"), "--max_new_tokens=2",
         "--quiet"});
  };
  const std::string piece_model =
      ReadFile(ModelPath("llama2_model_legacy/tokenizer.model"));
  ExpectRefused(run(ReadFile(ModelPath("tiny/tokenizer.json")), ""),
                "a.task: the tokenizer: not a SentencePiece model");
  ExpectRefused(run(piece_model.substr(0, 5000), ""),
                "a.task: the tokenizer: not a SentencePiece model");
  ExpectRefused(run(piece_model, "\x2a\x09x"), "a.task: METADATA is damaged");
}

TEST(Command, EmbeddersInABundle) {
  for (const char* name :
       {"tiny_two_embedders.litertlm", "tiny_hf_embedder.litertlm"}) {
    const RunResult run = RunTiny({"--max_new_tokens=5"}, name);
    // export_hf names a start token on top of SmolLM2's template. The other
    // file adds up a quarter and three quarters of the embedding, which are not
    // the checkpoint's weights.
    const bool converters_own =
        std::string(name) == "tiny_hf_embedder.litertlm";
    EXPECT_EQ(run.code, 1) << run.out << run.err;
    EXPECT_THAT(run.out, AllOf(HasSubstr(converters_own ? "start-token-differs"
                                                        : "scale (broken)"),
                               HasSubstr("every greedy choice agrees")));
  }
}

TEST(Inspect, EmbeddersAndTaskFiles) {
  const RunResult bundle =
      RunCommand({"inspect", ModelPath("tiny_two_embedders.litertlm")});
  EXPECT_EQ(bundle.code, 0) << bundle.err;
  EXPECT_THAT(
      bundle.out,
      AllOf(HasSubstr("tiny_two_embedders.litertlm: per_layer_embedder\n"),
            HasSubstr("Embeds       64 tokens, [64] numbers each, by "
                      "prefill_embedder_64\n"),
            HasSubstr("Embeds       1 token, [2, 32] numbers each, by "
                      "decode_per_layer_embedder\n")));
  const RunResult task =
      RunCommand({"inspect", "--json", ModelPath("tiny_ids.task")});
  EXPECT_EQ(task.code, 0) << task.err;
  const auto json = nlohmann::json::parse(task.out);
  EXPECT_EQ(json["kind"], ".task");
  EXPECT_EQ(json["models"][0]["llm"]["recipe"], "float32");
  EXPECT_EQ(json["bundle"]["llm_metadata"]["single_turn"]["prefix"],
            "### User:\n");
  const TempDir dir;
  const RunResult checkpoint =
      RunCommand({"inspect", SentencePieceCheckpoint(dir)});
  EXPECT_THAT(checkpoint.out,
              AllOf(HasSubstr("SentencePiece (tokenizer.model), ids below "),
                    HasSubstr("Verifiable   yes\n")));
}

TEST(Inspect, SaysWhatIsInFilesAndCheckpoints) {
  const RunResult bundle =
      RunCommand({"inspect", ModelPath("tiny_bundle.litertlm")});
  EXPECT_EQ(bundle.code, 0) << bundle.err;
  EXPECT_THAT(bundle.out, AllOf(HasSubstr("Verifiable   yes: float32"),
                                HasSubstr("stop tokens    2\n"),
                                HasSubstr("[1, 256 positions, 2, 16]")));
  const RunResult quantised =
      RunCommand({"inspect", "--json", ModelPath("smollm2_q4_block32.tflite")});
  EXPECT_EQ(quantised.code, 0) << quantised.err;
  const auto json = nlohmann::json::parse(quantised.out);
  EXPECT_EQ(json["models"][0]["llm"]["recipe"], "int4");
  EXPECT_EQ(json["models"][0]["file"]["weights"][3]["stored"],
            "INT4 in blocks of 32");
  const RunResult checkpoint = RunCommand({"inspect", ModelPath("tiny")});
  EXPECT_EQ(checkpoint.code, 0) << checkpoint.err;
  EXPECT_THAT(checkpoint.out, AllOf(HasSubstr("Verifiable   yes\n"),
                                    HasSubstr("EOS ids      2\n")));
}

TEST(Inspect, WhatCannotBeVerifiedIsShownAllTheSame) {
  const RunResult small =
      RunCommand({"inspect", TestDataPath("small.litertlm")});
  EXPECT_EQ(small.code, 0) << small.err;
  EXPECT_THAT(small.out,
              AllOf(HasSubstr("Verifiable   no: "), HasSubstr("HF_Tokenizer"),
                    HasSubstr("model_type = \"tf_lite_embedder\"")));
  const TempDir dir;
  const std::string checkpoint = CopyCheckpoint(dir);
  EditConfig(checkpoint, "model_type", "mamba");
  const RunResult other = RunCommand({"inspect", checkpoint});
  EXPECT_EQ(other.code, 0) << other.err;
  EXPECT_THAT(other.out, AllOf(HasSubstr("Architecture mamba"),
                               HasSubstr("BPE (tokenizer.json)"),
                               HasSubstr("Verifiable   no: ")));
}

TEST(Inspect, BadInput) {
  const TempDir dir;
  ExpectRefused(RunCommand({"inspect"}), "name a file");
  ExpectRefused(RunCommand({"inspect", "a", "b"}), "not expected: b");
  ExpectRefused(RunCommand({"inspect", "--jsn", "a"}), "--jsn");
  ExpectRefused(RunCommand({"inspect", dir.File("none")}), "none");
  ExpectRefused(RunCommand({"inspect", dir.Write("x", "hello")}), "neither");
  ExpectRefused(RunCommand({"inspect", dir.path()}), "config.json");
  EXPECT_EQ(RunCommand({"inspect", "--help"}).code, 0);
  const std::string json = dir.File("out.json");
  const RunResult run =
      RunCommand({"inspect", ModelPath("tiny"), "--json=" + json});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(nlohmann::json::parse(ReadFile(json))["kind"], "checkpoint");
}

TEST(SelfCheck, ASoundModelAgreesWithItself) {
  const std::string flag = "--tflite_path=" + ModelPath("tiny_q8.tflite");
  const RunResult run = RunCommand({"selfcheck", flag});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("✓ prefill_64   pass"),
                             HasSubstr("✓ CONSISTENT: 7 of 7 checks made")));
  EXPECT_EQ(run.err, "");
  const TempDir dir;
  const std::string path = dir.File("result.json");
  const RunResult json =
      RunCommand({"selfcheck", flag, "--num_threads", "1", "--json=" + path});
  EXPECT_EQ(json.code, 0) << json.err;
  const auto result = nlohmann::json::parse(ReadFile(path));
  EXPECT_EQ(result["outcome"], "pass");
  EXPECT_EQ(result["num_threads"], 1);
  EXPECT_EQ(result["self_checks"].size(), 7u);
}

TEST(SelfCheck, WhatItCannotTellIsInconclusive) {
  const RunResult run = RunCommand(
      {"selfcheck", "--tflite_path", ModelPath("small_lora.tflite"), "--json"});
  EXPECT_EQ(run.code, 3) << run.err;
  const auto result = nlohmann::json::parse(run.out);
  EXPECT_EQ(result["findings"][0]["id"], "kernel-differs");
}

TEST(SelfCheck, BadInput) {
  ExpectRefused(RunCommand({"selfcheck"}), "--tflite_path is required");
  ExpectRefused(RunCommand({"selfcheck", "model.tflite"}),
                "was not expected: model.tflite");
  ExpectRefused(RunCommand({"selfcheck", "--tflit=x"}), "--tflit");
  ExpectRefused(RunCommand({"selfcheck", "--tflite_path="}), "empty");
  ExpectRefused(RunCommand({"selfcheck", "--tflite_path"}), "FILE missing");
  ExpectRefused(
      RunCommand({"selfcheck", "--tflite_path=none", "--num_threads=0"}),
      "1 to 1024");
  ExpectRefused(RunCommand({"selfcheck", "--tflite_path=none"}), "none");
  ExpectRefused(RunCommand({"selfcheck",
                            "--tflite_path=" + ModelPath("small_ring.tflite")}),
                "sliding window");
  EXPECT_EQ(RunCommand({"selfcheck", "--help"}).code, 0);
}

TEST(Weights, ComparesAFileWithACheckpoint) {
  const auto run = [](const std::string& model, const std::string& checkpoint,
                      const std::string& more = "--json") {
    return RunCommand({"weights", "--tflite_path=" + ModelPath(model),
                       "--checkpoint_path=" + ModelPath(checkpoint), more});
  };
  for (const char* model :
       {"tiny_q8.tflite", "tiny_bundle.litertlm", "tiny_hf_embedder.litertlm",
        "tiny_hf_embedder_q8/model_quantized.tflite"}) {
    const RunResult good = run(model, "tiny");
    EXPECT_EQ(good.code, 0) << model << good.err;
    const auto json = nlohmann::json::parse(good.out);
    EXPECT_EQ(json["outcome"], "pass");
    EXPECT_EQ(json["verified_bytes"], json["weight_bytes"]);
    EXPECT_TRUE(json["missing"].empty()) << json["missing"];
  }
  const TempDir dir;
  const std::string path = dir.File("out.json");
  const RunResult bad = run("tiny_f32.tflite", "tiny_other", "--json=" + path);
  EXPECT_EQ(bad.code, 1) << bad.err;
  const auto json = nlohmann::json::parse(ReadFile(path));
  EXPECT_EQ(json["findings"][0]["id"], "wrong-checkpoint");
  const RunResult text =
      RunCommand({"weights", "--tflite_path=" + ModelPath("tiny_f32.tflite"),
                  "--checkpoint_path=" + ModelPath("tiny")});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("PASS: all 13273344 bytes of weights"));
}

TEST(Weights, BadInput) {
  const TempDir dir;
  const std::string checkpoint = "--checkpoint_path=" + ModelPath("tiny");
  const std::string model = ModelPath("tiny_q8.tflite");
  ExpectRefused(RunCommand({"weights", checkpoint}), "--tflite_path");
  ExpectRefused(RunCommand({"weights", "--tflite=a", checkpoint}),
                "--tflite=a");
  const auto refused = [&](const std::string& path, const std::string& why) {
    ExpectRefused(RunCommand({"weights", "--tflite_path=" + path, checkpoint}),
                  why);
  };
  refused(dir.File("none"), "none");
  refused(dir.Write("x", "hello"), "neither");
  const std::string content = ReadFile(model);
  refused(dir.Write("cut.tflite", content.substr(0, content.size() / 2)),
          "damaged or incomplete");
  EXPECT_EQ(RunCommand({"weights", "--help"}).code, 0);
}

TEST(Command, AnotherKindOfWeightFile) {
  const TempDir dir;
  const std::string checkpoint = CopyCheckpoint(dir);
  ExpectRefused(RunAgainst(dir.Write("checkpoint/model.gguf", "GGUF")),
                "File format not supported: use .safetensors");
}

TEST(Command, DamagedTokenizer) {
  const TempDir dir;
  const std::string checkpoint = CopyCheckpoint(dir);
  const std::string path = checkpoint + "/tokenizer.json";
  for (const char* content : {"", "{", "[]", "{}", R"({"model": {}})",
                              R"({"model": {"type": "BPE", "vocab": {}}})"}) {
    WriteFile(path, content);
    const RunResult run = RunAgainst(checkpoint);
    EXPECT_EQ(run.code, 2) << content;
    EXPECT_THAT(run.err, HasSubstr("verify_tflite: error: ")) << content;
  }
}

TEST(Command, MissingRuntimeNamesThePackage) {
  const RunResult run =
      RunCommand({"--tflite_path=" + ModelPath("tiny_f32.tflite"),
                  "--checkpoint_path=" + ModelPath("tiny")},
                 {"VERIFY_TFLITE_LITERT=/no/such/libLiteRt.so"});
  ExpectRefused(run, "pip install 'ai-edge-litert");
}

TEST(Command, AFailureLeavesNoReport) {
  const TempDir dir;
  const std::string path = dir.File("result.json");
  const RunResult run =
      RunCommand({"--tflite_path=" + dir.Write("bad.tflite", "x"),
                  "--checkpoint_path=" + ModelPath("tiny"), "--json=" + path});
  EXPECT_EQ(run.code, 2);
  EXPECT_FALSE(fs::exists(path));
}

}  // namespace
}  // namespace verify_tflite
