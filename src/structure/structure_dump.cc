#include <chrono>
#include <cstdio>

#include "base/error.h"
#include "structure/structure_check.h"
using namespace verify_tflite;
int main(int argc, char** argv) {
  try {
    auto now = [] {
      return std::chrono::duration<double>(
                 std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    const Checkpoint c = Checkpoint::Open(argv[2]);
    Model::OpenOptions o;
    for (auto& l : c.config().layers)
      if (l.window > 0) {
        o.sliding_window = l.window;
        break;
      }
    const Model m = Model::Open(argv[1], o);
    double t0 = now();
    FileGraph g = OpenFileGraph(argv[1], c);
    double t1 = now();
    std::vector<int32_t> ids;
    for (int i = 0; i < 400; ++i)
      ids.push_back(3 + i * 7919 % (m.info().vocab_size - 3));
    std::vector<PrefillPlan> plans;
  std::vector<int64_t> lengths;
  for (auto& p : m.info().prefills) lengths.push_back(p.length);
  for (auto l : lengths) plans.push_back(PlanPrefill(lengths, m.info().kv_length, 0, l));
  PlainLogits logits;
  if (argc < 4) { Session plain = Session::Create(m, plans, {2}); logits = RunPlain(m.info(), plain, lengths, ids); }
  t1 = now();
  StructureCheck check({m, c, g, ids, logits, 2});
  double t2 = now();
    Structure s = check.Compare();
    double t3 = now();
    printf("graph %.2f run %.2f compare %.2f same_bits %d\n", t1 - t0, t2 - t1,
           t3 - t2, s.same_bits);
    for (auto& x : s.signatures) {
      printf("%s ops %ld verified %ld not_run '%s' rows:", x.signature.c_str(),
             x.ops, x.verified_ops, x.not_run.c_str());
      for (auto& [a, b] : x.positions) printf(" %ld-%ld", a, b);
      puts("");
      for (auto& a : x.stages)
        printf("   %-18s rows %5ld worst %.2e limit %.1e layer %ld pos %ld%s\n",
               a.stage.c_str(), a.rows, a.worst, a.limit, a.layer, a.position,
               a.worst <= a.limit ? "" : " !!!");
      int n = 0;
      for (auto& a : x.not_verified)
        if (n++ < 8) printf("   not verified: %.100s\n", a.c_str());
    }
    int n = 0;
    for (auto& f : s.faults)
      if (n++ < 10)
        printf("FAULT %s %s layer %ld pos %ld %s error %.2e limit %.1e\n",
               f.signature.c_str(), f.stage.c_str(), f.layer, f.position,
               f.op.c_str(), f.error, f.limit);
  } catch (const Error& e) {
    puts(e.what());
    return 2;
  }
}
