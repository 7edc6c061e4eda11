#include "structure/file_graph.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "audit/compare.h"
#include "audit/originals.h"
#include "audit/stored.h"
#include "structure/file_tensor.h"

namespace verify_tflite {
namespace {

// What a product's input is multiplied with first; in float64, too, for what
// that leaves in the matrix.
struct InputScale {
  std::vector<float> values;
  std::vector<double> wide;
};

// What is done to a product's input before it: nothing where null.
struct InputChange {
  const Rotation* rotation = nullptr;
  const InputScale* scale = nullptr;
  auto operator<=>(const InputChange&) const = default;
};

struct Storage {
  Storage(std::shared_ptr<const tflite::Container> c,
          const Checkpoint& checkpoint)
      : originals(checkpoint), container(std::move(c)) {}

  Originals originals;
  std::shared_ptr<const tflite::Container> container;
  std::deque<FileTensor> tensors;
  std::vector<std::shared_ptr<const Rotation>> rotations;
  std::map<int32_t, InputScale> scales;  // by constant
};

// One range of a product's outputs: where it is in the checkpoint.
struct Place {
  Product::Columns columns;
  Rows rows;
};

// How a constant holds what it is for.
struct Way {
  Original original;
  std::vector<Place> places;
  bool fits = false;  // as far as samples show
};

std::vector<Part> PartsOf(Part part) {
  if (part == Part::kQkv) return {Part::kQ, Part::kK, Part::kV};
  if (part == Part::kGateUp) return {Part::kGate, Part::kUp};
  return {part};
}

class Opener {
 public:
  Opener(std::shared_ptr<const tflite::Container> container,
         const Checkpoint& checkpoint)
      : storage_(std::make_shared<Storage>(std::move(container), checkpoint)),
        originals_(storage_->originals),
        config_(checkpoint.config()) {}

  FileGraph Open() {
    storage_->container->CheckKind();
    for (const tflite::Part* part : storage_->container->model_parts()) {
      part->file().CheckConstants();
      embedders_.push_back(&part->file());
    }
    result_.file = embedders_.front();
    embedders_.erase(embedders_.begin());
    roles_ = FindRoles(*result_.file, NumKvLayers(config_), config_.head_dim);
    KeepRotations(roles_);
    FindEmbedder();
    for (const SignatureRoles& roles : roles_.signatures) {
      result_.signatures.push_back(MakeSignature(roles));
    }
    result_.storage = storage_;
    return std::move(result_);
  }

 private:
  using PieceMap = std::map<std::string, std::vector<FilePiece>>;

  struct Table {
    const tflite::Constant* constant = nullptr;
    const Rotation* rotation = nullptr;
  };

  // What is gathered for one signature, by the checkpoint's names.
  struct Gathered {
    PieceMap pieces;
    std::map<std::string, const TensorView*> tensors;
    std::map<std::string, bool> quantised;
    // Products' alone: nothing where parts of a tensor differ.
    std::map<std::string, std::optional<InputChange>> changes;
  };

  void KeepRotations(const Roles& roles) {
    for (const auto& [constant, rotation] : roles.rotations) {
      storage_->rotations.push_back(rotation);
    }
  }

  const Rotation* RotationOf(int32_t constant) const {
    return constant < 0 ? nullptr : roles_.rotations.at(constant).get();
  }

  // Null: there is none, or it is no float32 vector.
  const InputScale* ScaleOf(int32_t index) {
    if (index < 0) return nullptr;
    const auto [entry, is_new] = storage_->scales.try_emplace(index);
    if (is_new) {
      const tflite::Constant& constant = Constant(index);
      const StoredReader reader(constant);
      std::vector<float>& values = entry->second.values;
      values.resize(static_cast<size_t>(constant.elements()));
      for (int64_t row = 0; row < constant.rows(); ++row) {
        reader.Read(row, values.data() + row * constant.cols());
      }
      entry->second.wide.assign(values.begin(), values.end());
    }
    return &entry->second;
  }

  const Rows* Find(const WeightRole& role) const {
    const auto found = originals_.all().find(role);
    return found == originals_.all().end() ? nullptr : &found->second;
  }

  // What the rows of an original are of `role`'s outputs.
  std::vector<Place> PlacesOf(const Original& original,
                              const WeightRole& role) const {
    std::vector<Place> places;
    std::vector<Rows> runs;
    for (const Rows& rows : original.rows) {
      for (Rows& run : rows.Runs()) runs.push_back(std::move(run));
    }
    for (const Rows& rows : runs) {
      bool found = false;
      for (const Part part : PartsOf(role.part)) {
        const Rows* whole = Find({part, role.layer, role.bias});
        if (whole == nullptr && part == Part::kHead) {
          whole = Find({Part::kEmbedding, -1, false});
        }
        const int64_t first = whole == nullptr ? -1 : whole->IndexOf(rows);
        if (first < 0) continue;
        places.push_back({{part, first, rows.count}, rows});
        found = true;
        break;
      }
      if (!found) return {};
    }
    return places;
  }

  // Rows of each head of q and k alternate between its two halves: what RoPE
  // of neighbours needs.
  std::optional<Original> Interleaved(const Original& original,
                                      const WeightRole& role) const {
    const int64_t dim =
        config_.layers[static_cast<size_t>(role.layer)].head_dim;
    Original result = original;
    result.rows.clear();
    for (const Place& place : PlacesOf(original, role)) {
      if (place.columns.part == Part::kV) {
        result.rows.push_back(place.rows);
        continue;
      }
      if (place.rows.count % dim != 0) return std::nullopt;
      for (int64_t i = 0; i < place.rows.count; ++i) {
        const int64_t in_head = i % dim;
        Rows row = place.rows;
        row.first += i - in_head + in_head / 2 + in_head % 2 * (dim / 2);
        row.count = 1;
        result.rows.push_back(std::move(row));
      }
    }
    return result;
  }

  std::vector<Original> WaysOf(const WeightRole& role, bool composite,
                               const InputChange& change) const {
    std::vector<Original> ways = PlainWaysOf(role, composite);
    for (Original& way : ways) {
      way.rotation = change.rotation;
      way.rotated_back = role.part == Part::kEmbedding ||
                         role.part == Part::kPerLayerEmbedding;
      if (change.scale != nullptr) way.input_scale = &change.scale->wide;
    }
    return ways;
  }

  std::vector<Original> PlainWaysOf(const WeightRole& role,
                                    bool composite) const {
    std::vector<Original> ways = originals_.Of(role);
    if (composite && IsNorm(role.part)) {
      // The composite may add the 1.
      for (Original way : originals_.Plain(role)) {
        if (way.offset == 0) continue;
        way.offset = 0;
        ways.push_back(std::move(way));
      }
    }
    const bool rotated = role.part == Part::kQ || role.part == Part::kK ||
                         role.part == Part::kQkv;
    if (!roles_.interleaved_rope || !rotated) return ways;
    const size_t usual = ways.size();
    for (size_t i = 0; i < usual; ++i) {
      auto way = Interleaved(ways[i], role);
      if (way) ways.push_back(*std::move(way));
    }
    return ways;
  }

  // The first way that the constant may be stored in, else the nearest;
  // nothing where no way has its shape. Of matrices and norms.
  const Way* WayOf(const tflite::Constant& constant, const WeightRole& role,
                   bool transposed, bool composite = false,
                   const InputChange& change = {}) {
    if (change.rotation != nullptr && transposed) return nullptr;
    const auto key =
        std::make_tuple(&constant, role, transposed, composite, change);
    const auto [entry, is_new] = ways_.try_emplace(key);
    std::optional<Way>& way = entry->second;
    if (is_new) {
      way = Choose(constant, role, transposed, WaysOf(role, composite, change));
    }
    return way ? &*way : nullptr;
  }

  std::optional<Way> Choose(const tflite::Constant& constant,
                            const WeightRole& role, bool transposed,
                            std::span<const Original> ways) const {
    const auto fitting =
        std::find_if(ways.begin(), ways.end(), [&](const Original& way) {
          return SameShape(constant, way, transposed) &&
                 MayBe(constant, way, transposed);
        });
    const bool fits = fitting != ways.end();
    const Original* chosen =
        fits ? &*fitting : Nearest(constant, ways, transposed);
    if (chosen == nullptr) return std::nullopt;
    Way way{*chosen, {}, fits};
    way.places = PlacesOf(way.original, role);
    // Computed biases have none where the checkpoint has no bias.
    if (way.places.empty() && way.original.computed.empty()) {
      return std::nullopt;
    }
    return way;
  }

  // The constant's rows, under the names of what they are.
  void Gather(const Way& way, const tflite::Constant& constant, bool transposed,
              bool quantised, Gathered& gathered,
              const InputScale* scale = nullptr) const {
    int64_t stored = 0;
    for (const Place& place : way.places) {
      const bool tied =
          place.columns.part == Part::kHead && !originals_.has_head();
      AddPiece(
          tied ? originals_.checkpoint().names().Of({Part::kHead})
               : place.rows.name,
          place.rows,
          {.first = 0,
           .count = place.rows.count,
           .constant = &constant,
           .stored = stored,
           .transposed = transposed,
           .factor = way.original.factor,
           .offset = way.original.offset,
           .rotated_back =
               way.original.rotated_back ? way.original.rotation : nullptr},
          quantised, gathered,
          {way.original.rotated_back ? nullptr : way.original.rotation, scale});
      stored += place.rows.count;
    }
  }

  static void AddPiece(const std::string& name, const Rows& rows,
                       FilePiece piece, bool quantised, Gathered& gathered,
                       const InputChange& change = {}) {
    piece.first = rows.first;
    const auto [known, is_new] = gathered.changes.try_emplace(name, change);
    if (!is_new && known->second != change) known->second.reset();
    std::vector<FilePiece>& pieces = gathered.pieces[name];
    if (!pieces.empty()) {
      FilePiece& last = pieces.back();
      const bool continues = last.first + last.count == piece.first &&
                             last.constant == piece.constant &&
                             last.stored + last.count == piece.stored;
      if (continues) {
        last.count += piece.count;
        return;
      }
    }
    pieces.push_back(piece);
    gathered.tensors[name] = rows.tensor;
    gathered.quantised[name] |= quantised;
  }

  static std::vector<Product::Columns> Joined(
      const std::vector<Place>& places) {
    std::vector<Product::Columns> columns;
    for (const auto& [next, rows] : places) {
      if (!columns.empty() && columns.back().part == next.part &&
          columns.back().first + columns.back().count == next.first) {
        columns.back().count += next.count;
      } else {
        columns.push_back(next);
      }
    }
    return columns;
  }

  Product MakeProduct(const ProductUse& use, Gathered& gathered) {
    Product product;
    product.role = use.role;
    product.op = use.op;
    product.input = use.input;
    product.rotated = use.rotated;
    product.output = use.output;
    product.quantised_input = use.quantised_input;
    const tflite::Constant& constant = Constant(use.constant);
    const InputChange change = {RotationOf(use.rotation),
                                ScaleOf(use.input_scale)};
    const Way* way = WayOf(constant, use.role, use.transposed, false, change);
    if (way == nullptr) return product;
    product.constant = use.constant;
    product.transposed = use.transposed;
    product.original = std::make_shared<const Original>(way->original);
    if (change.scale != nullptr) product.vector = &change.scale->values;
    product.columns = Joined(way->places);
    if (!way->original.factor_of_input) product.factor = way->original.factor;
    if (way->original.column_factor != nullptr) {
      SetInput(*way->original.column_factor, way->original.column_offset,
               product);
    } else {
      Gather(*way, constant, use.transposed, use.quantised_input, gathered,
             change.scale);
    }
    if (use.bias >= 0) GatherBias(use, *way, product, gathered);
    return product;
  }

  static std::vector<float> Floats(const Rows& rows) {
    std::vector<float> values(static_cast<size_t>(rows.count));
    ToFloats(*rows.tensor, rows.first, rows.count, values.data());
    return values;
  }

  // `norm` is folded into the product.
  void SetInput(const Rows& norm, double adds, Product& product) const {
    product.input_scale = Floats(norm);
    for (float& value : product.input_scale) {
      value = static_cast<float>(value + adds);
    }
    product.input_offset.assign(product.input_scale.size(), 0);
    for (const auto& [role, rows] : originals_.all()) {
      if (&rows != &norm) continue;
      const Rows* shift = Find({role.part, role.layer, true});
      if (shift != nullptr && shift->count == norm.count) {
        product.input_offset = Floats(*shift);
      }
    }
  }

  // Columns and factor are the matrix's. A bias that the norm's was folded into
  // says nothing about the checkpoint's.
  void GatherBias(const ProductUse& use, const Way& way, Product& product,
                  Gathered& gathered) {
    const tflite::Constant& constant = Constant(use.bias);
    if (constant.type == ElementType::kUnknown || constant.cols() != 1 ||
        constant.rows() != way.original.num_rows() ||
        !product.input_scale.empty() || FoldsNormBias(use, constant, product)) {
      return;
    }
    int64_t stored = 0;
    for (const Place& place : way.places) {
      const Rows* whole = Find({place.columns.part, use.role.layer, true});
      if (whole != nullptr &&
          place.columns.first + place.columns.count <= whole->count) {
        int64_t at = stored;
        const Rows slice =
            whole->Slice(place.columns.first, place.columns.count);
        for (const Rows& rows : slice.Runs()) {
          AddPiece(rows.name, rows,
                   {.count = rows.count,
                    .constant = &constant,
                    .stored = at,
                    .factor = way.original.factor},
                   false, gathered);
          at += rows.count;
        }
      }
      stored += place.columns.count;
    }
  }

  // A norm whose weight is 1 throughout leaves no trace in the matrix.
  bool FoldsNormBias(const ProductUse& use, const tflite::Constant& constant,
                     Product& product) {
    if (!config_.layer_norm) return false;
    WeightRole role = use.role;
    role.bias = true;
    for (const Original& plain : originals_.Plain(role)) {
      if (SameShape(constant, plain, false) && MayBe(constant, plain, false)) {
        return false;
      }
    }
    const Way* way = WayOf(constant, role, false);
    if (way == nullptr || !way->fits || way->original.computed.empty()) {
      return false;
    }
    for (const Original& matrix : originals_.Of(use.role)) {
      if (matrix.column_factor == nullptr) continue;
      SetInput(*matrix.column_factor, matrix.column_offset, product);
      break;
    }
    return true;
  }

  // Norms' weights and biases: where several constants may be one, the first
  // that is as expected.
  void GatherNorms(const std::string& signature, Gathered& gathered) {
    std::map<WeightRole, std::pair<const Way*, const tflite::Constant*>> best;
    for (const RoleUse& use : roles_.uses) {
      const bool is_vector =
          IsNorm(use.role.part) || use.role.part == Part::kLayerScalar;
      if (use.signature != signature || !is_vector) continue;
      const tflite::Constant& constant = Constant(use.constant);
      const Way* way = WayOf(constant, use.role, false, use.composite);
      if (way == nullptr) continue;
      const auto [entry, is_new] = best.try_emplace(use.role, way, &constant);
      if (!is_new && way->fits && !entry->second.first->fits) {
        entry->second = {way, &constant};
      }
    }
    for (const auto& [role, found] : best) {
      Gather(*found.first, *found.second, false, false, gathered);
    }
  }

  void FindEmbedder() {
    for (const tflite::File* embedder : embedders_) {
      const tflite::File& file = *embedder;
      const Roles roles =
          FindRoles(file, NumKvLayers(config_), config_.head_dim);
      KeepRotations(roles);
      for (const RoleUse& use : roles.uses) {
        const tflite::Constant& constant =
            file.constants[static_cast<size_t>(use.constant)];
        const Rotation* rotation =
            use.rotation < 0 ? nullptr : roles.rotations.at(use.rotation).get();
        const auto known = tables_.find(use.role.part);
        if (known == tables_.end() && !IsNorm(use.role.part) &&
            WayOf(constant, use.role, false, false, {rotation}) != nullptr) {
          tables_[use.role.part] = {&constant, rotation};
        }
      }
    }
  }

  // Of a table that the model looks up, or its embedder.
  void GatherTable(Part part, SignatureGraph& signature, Gathered& gathered) {
    const WeightRole role{part, -1, false};
    Table table = signature.embedding < 0 && tables_.contains(part)
                      ? tables_.at(part)
                      : Table{};
    for (const RoleUse& use : roles_.uses) {
      if (table.constant == nullptr && use.signature == signature.signature &&
          use.role == role) {
        table = {&Constant(use.constant), RotationOf(use.rotation)};
      }
    }
    const Way* way =
        table.constant == nullptr
            ? nullptr
            : WayOf(*table.constant, role, false, false, {table.rotation});
    if (way == nullptr) return;
    if (part == Part::kEmbedding) {
      signature.embedding_factor = way->original.factor;
    }
    Gather(*way, *table.constant, false, false, gathered);
  }

  SignatureGraph MakeSignature(const SignatureRoles& roles) {
    SignatureGraph signature;
    signature.signature = roles.signature;
    signature.graph = roles.graph;
    signature.embedding = roles.embedding;
    signature.not_understood = roles.not_understood;
    if (!roles.not_understood.empty()) return signature;
    Gathered gathered;
    GatherTable(Part::kEmbedding, signature, gathered);
    GatherTable(Part::kPerLayerEmbedding, signature, gathered);
    for (const ProductUse& use : roles.products) {
      signature.products.push_back(MakeProduct(use, gathered));
      signature.integer_activations |=
          use.output >= 0 &&
          result_.file->graphs[static_cast<size_t>(roles.graph)]
              .tensors[static_cast<size_t>(use.output)]
              .scale.has_value();
    }
    GatherNorms(roles.signature, gathered);
    for (auto& [name, pieces] : gathered.pieces) {
      const TensorView& tensor = *gathered.tensors[name];
      const std::optional<InputChange> change = gathered.changes[name];
      if (!SortPieces(pieces, tensor.shape[0]) || !change) continue;
      TensorView view;
      view.shape = tensor.shape;
      view.read = Reader(std::move(pieces),
                         tensor.shape.size() == 2 ? tensor.shape[1] : 1);
      signature.weights[name] = {
          view, gathered.quantised[name], change->rotation,
          change->scale == nullptr ? nullptr : &change->scale->values};
    }
    return signature;
  }

  const ReadFn* Reader(std::vector<FilePiece> pieces, int64_t cols) {
    const ReadFn*& reader = readers_[{pieces, cols}];
    if (reader == nullptr) {
      const FileTensor* tensor =
          &storage_->tensors.emplace_back(std::move(pieces), cols);
      reader = &result_.readers.emplace_back(
          [tensor](int64_t first, int64_t count, float* out) {
            tensor->Read(first, count, out);
          });
    }
    return reader;
  }

  const tflite::Constant& Constant(int32_t index) const {
    return result_.file->constants[static_cast<size_t>(index)];
  }

  std::shared_ptr<Storage> storage_;
  std::vector<const tflite::File*> embedders_;
  const Originals& originals_;
  const ModelConfig& config_;
  FileGraph result_;
  Roles roles_;
  std::map<Part, Table> tables_;  // of the embedders
  std::map<
      std::tuple<const tflite::Constant*, WeightRole, bool, bool, InputChange>,
      std::optional<Way>>
      ways_;
  std::map<std::pair<std::vector<FilePiece>, int64_t>, const ReadFn*> readers_;
};

}  // namespace

FileGraph OpenFileGraph(std::shared_ptr<const tflite::Container> container,
                        const Checkpoint& checkpoint) {
  return Opener(std::move(container), checkpoint).Open();
}

FileGraph OpenFileGraph(const std::string& path, const Checkpoint& checkpoint) {
  return OpenFileGraph(std::make_shared<const tflite::Container>(path),
                       checkpoint);
}

}  // namespace verify_tflite
