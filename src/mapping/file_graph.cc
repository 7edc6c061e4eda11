#include "mapping/file_graph.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "mapping/compare.h"
#include "mapping/stored.h"
#include "tflite/container.h"

namespace verify_tflite {
namespace {

using Place = ModelMap::Place;

constexpr size_t kModel = 0;  // of ModelMap::files

// How a constant holds what it is for, and what its rows are.
struct Way {
  const Original* original = nullptr;
  std::vector<Place> places;
  bool fits = false;  // as far as samples show
};

// Returns nothing where no way has the constant's shape, or where its rows are
// of no part of the role.
std::optional<Way> WayOf(const ModelMap& map, size_t file, const RoleUse& use) {
  const Layouts& layouts = map.LayoutsOf(file, use);
  if (layouts.ways.empty()) return std::nullopt;
  const Original& original = layouts.ways.front();
  Way way{&original, map.PlacesOf(original, use.role), layouts.fits};
  // Computed biases have no places where the checkpoint has no bias.
  if (way.places.empty() && original.computed.empty()) return std::nullopt;
  return way;
}

// What is gathered for one signature, by the checkpoint's names.
struct Gathered {
  std::map<std::string, std::vector<FilePiece>> pieces;
  std::map<std::string, const TensorView*> tensors;
  std::map<std::string, bool> quantised;
  // Products' alone: nothing where parts of a tensor differ.
  std::map<std::string, std::optional<InputChange>> changes;
};

void AddPiece(const std::string& name, const Rows& rows, FilePiece piece,
              bool quantised, const InputChange& change, Gathered& gathered) {
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

// Adds the constant's rows under the names of what they are.
void Gather(const ModelMap& map, size_t file, const RoleUse& use,
            const Way& way, bool quantised, Gathered& gathered) {
  const Original& original = *way.original;
  InputChange change = map.ChangeOf(file, use);
  const Rotation* back = original.rotated_back ? change.rotation : nullptr;
  if (back != nullptr) change.rotation = nullptr;
  int64_t stored = 0;
  for (const Place& place : way.places) {
    const bool tied = place.part == Part::kHead && !map.originals().has_head();
    AddPiece(
        tied ? map.checkpoint().names().Of({Part::kHead}) : place.rows.name,
        place.rows,
        {.count = place.rows.count,
         .constant = &map.ConstantOf(file, use),
         .stored = stored,
         .transposed = use.transposed,
         .factor = original.factor,
         .offset = original.offset,
         .rotated_back = back},
        quantised, change, gathered);
    stored += place.rows.count;
  }
}

std::vector<Product::Columns> Joined(const std::vector<Place>& places) {
  std::vector<Product::Columns> columns;
  for (const Place& next : places) {
    if (!columns.empty() && columns.back().part == next.part &&
        columns.back().first + columns.back().count == next.first) {
      columns.back().count += next.rows.count;
    } else {
      columns.push_back({next.part, next.first, next.rows.count});
    }
  }
  return columns;
}

std::vector<float> Floats(const Rows& rows) {
  std::vector<float> values(static_cast<size_t>(rows.count));
  ToFloats(*rows.tensor, rows.first, rows.count, values.data());
  return values;
}

// `norm` is folded into the product.
void SetInput(const ModelMap& map, const Rows& norm, double adds,
              Product& product) {
  product.input_scale = Floats(norm);
  for (float& value : product.input_scale) {
    value = static_cast<float>(value + adds);
  }
  product.input_offset.assign(product.input_scale.size(), 0);
  for (const auto& [role, rows] : map.originals().all()) {
    if (&rows != &norm) continue;
    const Rows* shift = map.Find({role.part, role.layer, true});
    if (shift != nullptr && shift->count == norm.count) {
      product.input_offset = Floats(*shift);
    }
  }
}

RoleUse MatrixOf(const ProductUse& use) {
  return {.constant = use.constant,
          .role = use.role,
          .signature = {},
          .transposed = use.transposed,
          .rotation = use.rotation,
          .input_scale = use.input_scale};
}

RoleUse BiasOf(const ProductUse& use) {
  RoleUse bias = {.constant = use.bias, .role = use.role, .signature = {}};
  bias.role.bias = true;
  return bias;
}

// Whether a norm's bias is in the product's, and the norm's weight therefore in
// its matrix: one that is 1 throughout leaves no trace there.
bool FoldsNormBias(const ModelMap& map, const RoleUse& bias,
                   const WeightRole& matrix, Product& product) {
  if (!map.checkpoint().config().layer_norm) return false;
  const tflite::Constant& constant = map.ConstantOf(kModel, bias);
  for (const Original& plain : map.originals().Plain(bias.role)) {
    if (SameShape(constant, plain, false) && MayBe(constant, plain, false)) {
      return false;
    }
  }
  const std::optional<Way> way = WayOf(map, kModel, bias);
  if (!way || !way->fits || way->original->computed.empty()) return false;
  for (const Original& original : map.originals().Of(matrix)) {
    if (original.column_factor == nullptr) continue;
    SetInput(map, *original.column_factor, original.column_offset, product);
    break;
  }
  return true;
}

void AddBias(const ModelMap& map, const ProductUse& use, const Way& matrix,
             Gathered& gathered) {
  const tflite::Constant& constant = map.ConstantOf(kModel, BiasOf(use));
  int64_t stored = 0;
  for (const Place& place : matrix.places) {
    const Rows* whole =
        map.Find({place.part, use.role.layer, true, use.role.expert});
    if (whole != nullptr && place.first + place.rows.count <= whole->count) {
      int64_t at = stored;
      const Rows slice = whole->Slice(place.first, place.rows.count);
      for (const Rows& rows : slice.Runs()) {
        AddPiece(rows.name, rows,
                 {.count = rows.count,
                  .constant = &constant,
                  .stored = at,
                  .factor = matrix.original->factor},
                 false, {}, gathered);
        at += rows.count;
      }
    }
    stored += place.rows.count;
  }
}

// Columns and factor are the matrix's. A bias that the norm's was folded into
// says nothing about the checkpoint's.
void GatherBias(const ModelMap& map, const ProductUse& use, const Way& matrix,
                Product& product, Gathered& gathered) {
  const RoleUse bias = BiasOf(use);
  const tflite::Constant& constant = map.ConstantOf(kModel, bias);
  if (constant.type == ElementType::kUnknown || constant.cols() != 1 ||
      constant.rows() != matrix.original->num_rows() ||
      !product.input_scale.empty() ||
      FoldsNormBias(map, bias, use.role, product)) {
    return;
  }
  AddBias(map, use, matrix, gathered);
}

// The tensor that `tensor` is a view of.
int32_t RootOf(const tflite::Graph& graph, int32_t tensor) {
  while (tensor >= 0) {
    const int32_t producer =
        graph.tensors[static_cast<size_t>(tensor)].producer;
    if (producer < 0) break;
    const tflite::Op& op = graph.ops[static_cast<size_t>(producer)];
    const bool views = op.code == tflite::kOpReshape ||
                       op.code == tflite::kOpSqueeze ||
                       op.code == tflite::kOpExpandDims;
    if (!views || op.inputs.empty() || op.inputs[0] < 0 ||
        graph.tensors[static_cast<size_t>(op.inputs[0])].producer >= producer) {
      break;
    }
    tensor = op.inputs[0];
  }
  return tensor;
}

// The factor that the product's input is short of, which its matrix has.
double MissingFactor(const ModelMap& map, const ProductUse& use,
                     const Original& original,
                     const SignatureGraph& signature) {
  const bool of_embedding = use.role.part == Part::kPerLayerModelProjection ||
                            use.role.part == Part::kStreamProjection;
  if (!of_embedding) return original.factor_of_input ? original.factor : 1;
  const tflite::Graph& graph =
      map.model().graphs[static_cast<size_t>(signature.graph)];
  const bool of_lookup =
      signature.embedding >= 0 &&
      RootOf(graph, use.input) == RootOf(graph, signature.embedding);
  return of_lookup ? map.checkpoint().config().embedding_scale /
                         signature.embedding_factor
                   : 1;
}

Product MakeProduct(const ModelMap& map, const ProductUse& use,
                    const SignatureGraph& signature, Gathered& gathered) {
  Product product;
  product.role = use.role;
  product.op = use.op;
  product.input = use.input;
  product.rotated = use.rotated;
  product.output = use.output;
  product.quantised_input = use.quantised_input;
  const RoleUse matrix = MatrixOf(use);
  const std::optional<Way> way = WayOf(map, kModel, matrix);
  if (!way) return product;
  product.constant = use.constant;
  product.transposed = use.transposed;
  product.original = way->original;
  const InputScale* scale = map.ChangeOf(kModel, matrix).scale;
  if (scale != nullptr) product.vector = &scale->values;
  product.columns = Joined(way->places);
  // Its rows were counted as those of a vector.
  if (use.role.part == Part::kSharedScale) {
    product.columns = {{Part::kSharedScale, 0, 1}};
  }
  product.factor = way->original->factor /
                   MissingFactor(map, use, *way->original, signature);
  if (way->original->factor_of_input) {
    const auto size = static_cast<size_t>(way->original->cols());
    product.input_scale.assign(size, static_cast<float>(way->original->factor));
    product.input_offset.assign(size, 0);
  }
  if (way->original->column_factor != nullptr) {
    SetInput(map, *way->original->column_factor, way->original->column_offset,
             product);
  } else {
    Gather(map, kModel, matrix, *way, use.quantised_input, gathered);
  }
  if (use.bias >= 0) GatherBias(map, use, *way, product, gathered);
  return product;
}

// A product that a norm was folded into.
struct Folded {
  size_t product = 0;  // of SignatureGraph::products
  const ProductUse* use = nullptr;
  Way way;
};

// Whether the product's input is quantised and its bias is one that the
// checkpoint has, too.
bool IsWhole(const ModelMap& map, const Folded& folded) {
  if (!folded.use->quantised_input) return false;
  const bool shifts =
      std::ranges::any_of(map.originals().all(), [&](const auto& entry) {
        const auto& [role, rows] = entry;
        return &rows == folded.way.original->column_factor &&
               map.Find({role.part, role.layer, true}) != nullptr;
      });
  if (folded.use->bias < 0) return !shifts;
  const tflite::Constant& bias = map.ConstantOf(kModel, BiasOf(*folded.use));
  if (bias.type == ElementType::kUnknown || bias.cols() != 1 ||
      bias.rows() != folded.way.original->num_rows()) {
    return false;
  }
  return std::ranges::all_of(folded.way.places, [&](const Place& place) {
    return map.Find({place.part, folded.use->role.layer, true}) != nullptr;
  });
}

// Where the runtime quantises what a folded norm gives, the reference has to do
// so with the same numbers: it takes the file's product, and the norm neither
// scales nor shifts. That can be where it holds of all products that read the
// tensor. Returns such norms.
std::vector<const Rows*> TakeFolded(const ModelMap& map,
                                    const std::vector<Folded>& folded,
                                    SignatureGraph& signature,
                                    Gathered& gathered) {
  std::vector<const Rows*> norms;
  for (const Folded& first : folded) {
    const Rows* norm = first.way.original->column_factor;
    if (std::ranges::count(norms, norm) > 0) continue;
    std::vector<Folded> group;
    for (const Folded& each : folded) {
      if (each.way.original->column_factor == norm && IsWhole(map, each)) {
        group.push_back(each);
      }
    }
    const int32_t input = first.use->input;
    const bool together = std::ranges::all_of(
        group, [&](const Folded& f) { return f.use->input == input; });
    const auto readers =
        std::ranges::count(signature.products, input, &Product::input);
    if (!together || readers != std::ssize(group)) continue;
    for (const Folded& each : group) {
      Product& product = signature.products[each.product];
      product.input_scale.clear();
      product.input_offset.clear();
      Gather(map, kModel, MatrixOf(*each.use), each.way, true, gathered);
      if (each.use->bias >= 0) AddBias(map, *each.use, each.way, gathered);
    }
    norms.push_back(norm);
  }
  return norms;
}

// Norms' weights and biases, scalars of layers and biases of a choice: where
// several constants may be one, the first that is as expected.
void GatherNorms(const ModelMap& map, const std::string& signature,
                 Gathered& gathered) {
  std::map<WeightRole, std::pair<Way, const RoleUse*>> best;
  for (const RoleUse& use : map.files()[kModel].roles.uses) {
    const bool is_vector = IsNorm(use.role.part) || IsScale(use.role.part) ||
                           use.role.part == Part::kRouterBias ||
                           use.role.part == Part::kConvTaps;
    if (use.signature != signature || !is_vector) continue;
    const std::optional<Way> way = WayOf(map, kModel, use);
    if (!way) continue;
    const auto [entry, is_new] = best.try_emplace(use.role, *way, &use);
    if (!is_new && way->fits && !entry->second.first.fits) {
      entry->second = {*way, &use};
    }
  }
  for (const auto& [role, found] : best) {
    Gather(map, kModel, *found.second, found.first, found.second->integers,
           gathered);
  }
}

// Where the rows of the embedding come from.
struct Table {
  size_t file = kModel;
  RoleUse use;
  Way way;
};

// What an embedder beside the model multiplies with or looks up.
std::optional<Table> EmbedderTable(const ModelMap& map, Part part) {
  for (size_t file = kModel + 1; file < map.files().size(); ++file) {
    for (const RoleUse& use : map.files()[file].roles.uses) {
      if (use.role.part != part) continue;
      const std::optional<Way> way = WayOf(map, file, use);
      if (way) return Table{file, use, *way};
    }
  }
  return std::nullopt;
}

std::optional<Table> OwnTable(const ModelMap& map, Part part,
                              const std::string& signature) {
  for (const RoleUse& use : map.files()[kModel].roles.uses) {
    if (use.signature != signature || use.role.part != part) continue;
    const std::optional<Way> way = WayOf(map, kModel, use);
    if (!way) return std::nullopt;
    return Table{kModel, use, *way};
  }
  return std::nullopt;
}

void GatherTable(const ModelMap& map, Part part, SignatureGraph& signature,
                 Gathered& gathered) {
  std::optional<Table> table;
  if (signature.embedding < 0) table = EmbedderTable(map, part);
  if (!table) table = OwnTable(map, part, signature.signature);
  if (!table) return;
  if (part == Part::kEmbedding) {
    signature.embedding_factor = table->way.original->factor;
  }
  Gather(map, table->file, table->use, table->way, false, gathered);
}

// Views of the same pieces, in whatever signature, are one.
struct Readers {
  std::map<std::pair<std::vector<FilePiece>, int64_t>, const ReadFn*> of_pieces;
  std::map<float, const ReadFn*> constants;  // of one number throughout
};

const ReadFn* Reader(std::vector<FilePiece> pieces, int64_t cols,
                     Readers& readers, FileGraph& result) {
  const ReadFn*& reader = readers.of_pieces[{pieces, cols}];
  if (reader == nullptr) {
    const FileTensor* tensor =
        &result.tensors.emplace_back(std::move(pieces), cols);
    reader = &result.readers.emplace_back(
        [tensor](int64_t first, int64_t count, float* out) {
          tensor->Read(first, count, out);
        });
  }
  return reader;
}

const ReadFn* Constantly(float value, Readers& readers, FileGraph& result) {
  const ReadFn*& reader = readers.constants[value];
  if (reader == nullptr) {
    reader = &result.readers.emplace_back(
        [value](int64_t, int64_t count, float* out) {
          std::fill_n(out, count, value);
        });
  }
  return reader;
}

// Makes the norm one that neither scales nor shifts.
void SetUnscaled(const ModelMap& map, const Rows& norm, Readers& readers,
                 FileGraph& result, FileWeights& weights) {
  const bool adds_one = map.checkpoint().config().norm_adds_one;
  for (const auto& [role, rows] : map.originals().all()) {
    if (&rows != &norm) continue;
    for (const bool bias : {false, true}) {
      const Rows* part = map.Find({role.part, role.layer, bias});
      if (part == nullptr) continue;
      TensorView view;
      view.shape = part->tensor->shape;
      view.read = Constantly(bias || adds_one ? 0 : 1, readers, result);
      weights[part->name] = {.view = view};
    }
  }
}

FileWeights MakeWeights(Gathered gathered, Readers& readers,
                        FileGraph& result) {
  FileWeights weights;
  for (auto& [name, pieces] : gathered.pieces) {
    const TensorView& tensor = *gathered.tensors[name];
    const std::optional<InputChange> change = gathered.changes[name];
    // A matrix of one row is stored as a vector.
    const bool is_row = MatrixRows(tensor) == 1;
    const int64_t rows = is_row ? MatrixColumns(tensor) : MatrixRows(tensor);
    const int64_t columns = is_row ? 1 : MatrixColumns(tensor);
    if (!SortPieces(pieces, rows) || !change) continue;
    TensorView view;
    view.shape = tensor.shape;
    view.read = Reader(std::move(pieces), columns, readers, result);
    weights[name] = {
        view, gathered.quantised[name], change->rotation,
        change->scale == nullptr ? nullptr : &change->scale->values};
  }
  return weights;
}

SignatureGraph MakeSignature(const ModelMap& map, const SignatureRoles& roles,
                             Readers& readers, FileGraph& result) {
  SignatureGraph signature;
  signature.signature = roles.signature;
  signature.graph = roles.graph;
  signature.embedding = roles.embedding;
  signature.experts = roles.experts;
  signature.not_understood = roles.not_understood;
  if (!roles.not_understood.empty()) return signature;
  Gathered gathered;
  GatherTable(map, Part::kEmbedding, signature, gathered);
  GatherTable(map, Part::kPerLayerEmbedding, signature, gathered);
  const tflite::Graph& graph =
      map.model().graphs[static_cast<size_t>(roles.graph)];
  std::vector<Folded> folded;
  for (const ProductUse& use : roles.products) {
    signature.products.push_back(MakeProduct(map, use, signature, gathered));
    if (!signature.products.back().input_scale.empty()) {
      const std::optional<Way> way = WayOf(map, kModel, MatrixOf(use));
      if (way->original->column_factor != nullptr) {
        folded.push_back({signature.products.size() - 1, &use, *way});
      }
    }
    if (use.output < 0) continue;
    const tflite::Tensor& output =
        graph.tensors[static_cast<size_t>(use.output)];
    signature.integer_activations |= output.scale.has_value();
    signature.products.back().rectified =
        output.producer >= 0 &&
        graph.ops[static_cast<size_t>(output.producer)].activation ==
            tflite::schema::ActivationFunctionType::kRelu;
  }
  const std::vector<const Rows*> norms =
      TakeFolded(map, folded, signature, gathered);
  GatherNorms(map, roles.signature, gathered);
  signature.weights = MakeWeights(std::move(gathered), readers, result);
  for (const Rows* norm : norms) {
    SetUnscaled(map, *norm, readers, result, signature.weights);
  }
  return signature;
}

}  // namespace

FileGraph MakeFileGraph(std::shared_ptr<const ModelMap> map) {
  FileGraph result;
  result.file = &map->model();
  Readers readers;
  for (const SignatureRoles& roles : map->files()[kModel].roles.signatures) {
    result.signatures.push_back(MakeSignature(*map, roles, readers, result));
  }
  result.map = std::move(map);
  return result;
}

FileGraph OpenFileGraph(const std::string& path, const Checkpoint& checkpoint) {
  return MakeFileGraph(std::make_shared<const ModelMap>(
      std::make_shared<const tflite::Container>(path), checkpoint));
}

}  // namespace verify_tflite
