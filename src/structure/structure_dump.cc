#include <cstdio>
#include <chrono>
#include "structure/structure_check.h"
#include "base/error.h"
using namespace verify_tflite;
int main(int argc, char** argv) {
  try {
  auto now = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  const Checkpoint c = Checkpoint::Open(argv[2]);
  Model::OpenOptions o;
  for (auto& l : c.config().layers) if (l.window > 0) { o.sliding_window = l.window; break; }
  const Model m = Model::Open(argv[1], o);
  double t0 = now();
  FileGraph g = OpenFileGraph(argv[1], c);
  double t1 = now();
  std::vector<int32_t> ids;
  for (int i = 0; i < 400; ++i) ids.push_back(3 + i * 7919 % (m.info().vocab_size - 3));
  Session plain = Session::Create(m, RecordingPlans(m.info()), {2});
  StructureCheck check({m, plain, c, g, ids, 2});
  double t2 = now();
  Structure s = check.Compare();
  double t3 = now();
  printf("graph %.2f run %.2f compare %.2f same_bits %d\n", t1 - t0, t2 - t1, t3 - t2, s.same_bits);
  for (auto& x : s.signatures) {
    printf("%s ops %ld verified %ld not_run '%s' rows:", x.signature.c_str(), x.ops, x.verified_ops, x.not_run.c_str());
    for (auto& [a, b] : x.positions) printf(" %ld-%ld", a, b);
    puts("");
    for (auto& a : x.stages) printf("   %-18s rows %5ld worst %.2e limit %.1e layer %ld pos %ld%s\n", a.stage.c_str(), a.rows, a.worst, a.limit, a.layer, a.position, a.worst <= a.limit ? "" : " !!!");
    int n = 0;
    for (auto& a : x.not_verified) if (n++ < 8) printf("   not verified: %.100s\n", a.c_str());
  }
  int n = 0;
  for (auto& f : s.faults) if (n++ < 10) printf("FAULT %s %s layer %ld pos %ld %s error %.2e limit %.1e\n", f.signature.c_str(), f.stage.c_str(), f.layer, f.position, f.op.c_str(), f.error, f.limit);
  } catch (const Error& e) { puts(e.what()); return 2; }
}
