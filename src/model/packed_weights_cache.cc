#include "model/packed_weights_cache.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/atomic_file.h"
#include "base/checksum.h"
#include "base/log.h"
#include "base/siphash.h"
#include "base/status_macros.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;

// One checksum for each panel and one for the scales, folded with what file and place they belong
// to: a matrix that lies where another one belongs is found out.
std::uint64_t fold(const PackedWeightsKey& key, std::uint64_t index,
                   std::span<const std::uint64_t> sums) {
  return siphash({key.fingerprint, index}, std::as_bytes(sums));
}

class MatrixReader final : public PackedReader {
 public:
  MatrixReader(const FileReader& file, const PackedMatrixEntry& entry, const PackedLayout& layout)
      : file_(&file),
        entry_(&entry),
        panel_bytes_(static_cast<std::size_t>(layout.panel_bytes)),
        sums_(static_cast<std::size_t>(layout.panels) + 1) {}

  Status read_panels(std::int64_t first, std::span<std::uint8_t> into) override {
    const auto panel = static_cast<std::size_t>(first);
    const auto bytes = std::as_writable_bytes(into);
    LIQUIDGEMM_RETURN_IF_ERROR(file_->read_at(entry_->offset + panel * panel_bytes_, bytes));
    for (std::size_t i = 0; i < into.size() / panel_bytes_; ++i) {
      sums_[panel + i] = checksum(bytes.subspan(i * panel_bytes_, panel_bytes_));
    }
    return ok_status();
  }
  Status read_scales(std::span<float> into) override {
    const auto bytes = std::as_writable_bytes(into);
    LIQUIDGEMM_RETURN_IF_ERROR(file_->read_at(entry_->offset + entry_->bytes, bytes));
    sums_.back() = checksum(bytes);
    return ok_status();
  }
  std::span<const std::uint64_t> sums() const { return sums_; }

 private:
  const FileReader* file_;
  const PackedMatrixEntry* entry_;
  std::size_t panel_bytes_;
  std::vector<std::uint64_t> sums_;  // of every panel, then of the scales
};

std::vector<std::uint64_t> checksums(const PackedView& matrix, ThreadPool& pool) {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(matrix.layout.panels) + 1);
  const auto bytes = static_cast<std::size_t>(matrix.layout.panel_bytes);
  pool.parallel_for(matrix.layout.panels, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (auto panel = static_cast<std::size_t>(begin); panel < static_cast<std::size_t>(end);
         ++panel) {
      sums[panel] = checksum(std::as_bytes(std::span(matrix.panels + panel * bytes, bytes)));
    }
  });
  if (!matrix.channel_scale.empty()) {
    sums.back() = checksum(std::as_bytes(matrix.channel_scale));
  }
  return sums;
}

bool same_shape(const PackedMatrixEntry& entry, std::span<const WeightView> parts,
                const PackedLayout& layout) {
  std::int64_t n = 0;
  for (const WeightView& part : parts) n += part.n;
  const WeightView& part = parts.front();
  const int group = part.kind == WeightView::Kind::kLiquid4 ? part.group_size : 0;
  return entry.kind == part.kind && entry.group_size == group && entry.n == n &&
         entry.k == part.k && entry.bytes == static_cast<std::uint64_t>(layout.bytes());
}

}  // namespace

PackedWeightsCache::PackedWeightsCache(std::string path, const PackedWeightsKey& key)
    : path_(std::move(path)), key_(key) {
  const Status status = open();
  if (status.ok()) return;
  file_.reset();
  if (status.code() != StatusCode::kNotFound) warn(status);
}

Status PackedWeightsCache::open() {
  LIQUIDGEMM_ASSIGN_OR_RETURN(file_, FileReader::open(path_));
  std::vector<std::byte> bytes(PackedWeightsHeader::kFixedBytes);
  if (file_->size() < bytes.size()) return corrupt("not a file of packed weights");
  LIQUIDGEMM_RETURN_IF_ERROR(file_->read_at(0, bytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::size_t size, packed_weights_header_bytes(bytes));
  if (file_->size() < size) return corrupt("header: ends too early");
  bytes.resize(size);
  LIQUIDGEMM_RETURN_IF_ERROR(file_->read_at(0, bytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(header_, parse_packed_weights_header(bytes, file_->size()));
  if (header_.key.isa != key_.isa || header_.key.precision != key_.precision) {
    return invalid_argument("made for " + std::string(precision_name(header_.key.precision)) +
                            " on " + std::string(isa_name(header_.key.isa)));
  }
  if (header_.key != key_) return invalid_argument("made from other weights than these");
  return ok_status();
}

void PackedWeightsCache::warn(const Status& reason) const {
  log_warning(path_ + ": not used, and written anew: " + reason.message());
}

std::unique_ptr<CpuLinear> PackedWeightsCache::next(std::span<const WeightView> parts,
                                                    ThreadPool& pool, HugePageMemory* memory) {
  const std::size_t index = next_++;
  if (!file_) return nullptr;
  Result<std::unique_ptr<CpuLinear>> linear = corrupt("has too few matrices");
  if (index < header_.matrices.size()) {
    linear = read(header_.matrices[index], index, parts, pool, memory);
  }
  if (linear.ok()) return std::move(*linear);
  // The others may still be good; one warning is enough.
  if (!missed_) warn(linear.status());
  missed_ = true;
  return nullptr;
}

Result<std::unique_ptr<CpuLinear>> PackedWeightsCache::read(const PackedMatrixEntry& entry,
                                                            std::uint64_t index,
                                                            std::span<const WeightView> parts,
                                                            ThreadPool& pool,
                                                            HugePageMemory* memory) const {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const PackedLayout layout, packed_layout(parts, key_.isa));
  if (!same_shape(entry, parts, layout)) {
    return corrupt("has another matrix in place of " + parts.front().name);
  }
  MatrixReader reader(*file_, entry, layout);
  LIQUIDGEMM_ASSIGN_OR_RETURN(auto linear, read_linear(parts, key_.isa, pool, memory, reader));
  if (fold(key_, index, reader.sums()) != entry.checksum) {
    return corrupt("damaged: the checksum of " + parts.front().name + " is another");
  }
  return linear;
}

Status PackedWeightsCache::save(std::span<const CpuLinear* const> matrices,
                                ThreadPool& pool) const {
  PackedWeightsHeader header;
  header.key = key_;
  for (const CpuLinear* linear : matrices) {
    const PackedView matrix = linear->packed();
    header.matrices.push_back(
        {.kind = matrix.kind,
         .group_size = matrix.group_size,
         .n = matrix.n,
         .k = matrix.k,
         .offset = 0,
         .bytes = static_cast<std::uint64_t>(matrix.layout.bytes()),
         .checksum = fold(key_, header.matrices.size(), checksums(matrix, pool))});
  }
  header.lay_out();
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);  // create says it if that failed
  LIQUIDGEMM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path_));
  LIQUIDGEMM_RETURN_IF_ERROR(file.reserve(header.file_bytes()));
  LIQUIDGEMM_RETURN_IF_ERROR(file.write_at(0, encode_packed_weights_header(header)));
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const PackedView matrix = matrices[i]->packed();
    const PackedMatrixEntry& entry = header.matrices[i];
    const std::span panels(matrix.panels, static_cast<std::size_t>(matrix.layout.bytes()));
    LIQUIDGEMM_RETURN_IF_ERROR(file.write_at(entry.offset, std::as_bytes(panels)));
    LIQUIDGEMM_RETURN_IF_ERROR(
        file.write_at(entry.offset + entry.bytes, std::as_bytes(matrix.channel_scale)));
  }
  return file.commit();
}

std::string packed_weights_path(const std::string& model_path, const std::string& other_folder,
                                const PackedWeightsKey& key) {
  std::string name(kPackedWeightsPrefix);
  name += precision_name(key.precision);
  name += '.';
  name += isa_name(key.isa);
  std::error_code error;
  if (fs::is_directory(model_path, error)) return (fs::path(model_path) / name).string();
  char fingerprint[17];
  std::snprintf(fingerprint, sizeof fingerprint, "%016llx",
                static_cast<unsigned long long>(key.fingerprint));
  const std::string stem = fs::path(model_path).stem().string();
  return (fs::path(other_folder) / (stem + "-" + fingerprint + "." + name)).string();
}

}  // namespace liquidgemm
