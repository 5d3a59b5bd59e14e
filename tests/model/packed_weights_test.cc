// The file of packed weights: the same bits as packing gives, and whatever is wrong with the file,
// the model runs as without it.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "../fresh_seed.h"
#include "base/log.h"
#include "base/siphash.h"
#include "goldens.h"
#include "model/cpu_backend.h"
#include "model/load.h"
#include "model/packed_weights_cache.h"

namespace liquidgemm {
namespace {

namespace fs = std::filesystem;

using Bytes = std::vector<char>;

class PackedWeights : public ::testing::Test {
 protected:
  PackedWeights() : random_(testing::fresh_seed()) {
    std::string pattern = ::testing::TempDir() + "/liquidgemm-packed-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    model_ = folder_ / "model";
    fs::copy(testing::model_data("llama3-w4a8"), model_, fs::copy_options::recursive);
    tokens_.resize(12);
    for (TokenId& token : tokens_) token = static_cast<TokenId>(random_() % 64);
  }
  ~PackedWeights() override {
    fs::permissions(model_, fs::perms::owner_all);
    fs::remove_all(folder_);
  }

  LoadOptions options(bool cache = true) const {
    LoadOptions options;
    options.threads = 2;
    options.text = false;
    options.limits.max_rows = 32;
    options.limits.max_sequences = 1;
    options.limits.max_position = 64;
    options.cache_packed_weights = cache;
    options.packed_weights_folder = (folder_ / "other").string();
    return options;
  }

  // The logits of every position.
  std::vector<std::vector<float>> logits(const LoadOptions& options) const {
    auto source = open_model_source(model_.string());
    EXPECT_TRUE(source.ok()) << source.status().to_string();
    auto model = load_model(*source, options);
    EXPECT_TRUE(model.ok()) << model.status().to_string();
    if (!model.ok()) return {};
    std::vector<std::int32_t> positions(tokens_.size());
    std::iota(positions.begin(), positions.end(), 0);
    return testing::run_logits(*model->backend, tokens_, positions, 32);
  }

  fs::path file(Precision precision = Precision::kW4A8, Isa isa = best_isa()) const {
    return packed_weights_path(model_.string(), "", {isa, precision, 0});
  }
  static Bytes read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const fs::path& path, const Bytes& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  // Another number after every time the file was written; -1 when there is none.
  static std::int64_t written(const fs::path& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return -1;
    return static_cast<std::int64_t>(info.st_ino);
  }
  static PackedWeightsHeader header_of(const Bytes& bytes) {
    const auto span = std::as_bytes(std::span(bytes));
    auto header = parse_packed_weights_header(span, bytes.size());
    EXPECT_TRUE(header.ok()) << header.status().to_string();
    return header.ok() ? *header : PackedWeightsHeader{};
  }
  // The table and its checksum written over the old ones.
  static void put_header(const PackedWeightsHeader& header, Bytes& bytes) {
    const auto encoded = encode_packed_weights_header(header);
    std::memcpy(bytes.data(), encoded.data(), encoded.size());
  }

  // With `bytes` in the file's place the answers are as without a file, and the file is good again.
  void expect_replaced(const Bytes& bytes, const Bytes& good,
                       const std::vector<std::vector<float>>& expected) {
    write(file(), bytes);
    EXPECT_EQ(logits(options()), expected);
    EXPECT_EQ(read(file()), good);
  }

  std::mt19937_64 random_;
  fs::path folder_, model_;
  std::vector<TokenId> tokens_;
};

TEST_F(PackedWeights, GiveTheSameBitsInEveryPrecisionOnEveryInstructionSet) {
  for (const Isa isa : testing::isas()) {
    for (const Precision precision : {Precision::kW4A8, Precision::kW4A16}) {
      SCOPED_TRACE(std::string(isa_name(isa)) + " " + std::string(precision_name(precision)));
      LoadOptions with = options();
      with.isa = isa;
      with.precision = precision;
      LoadOptions without = with;
      without.cache_packed_weights = false;
      const auto expected = logits(without);
      EXPECT_FALSE(fs::exists(file(precision, isa)));
      EXPECT_EQ(logits(with), expected);
      const std::int64_t first = written(file(precision, isa));
      EXPECT_GE(first, 0);
      EXPECT_EQ(logits(with), expected);
      EXPECT_EQ(written(file(precision, isa)), first) << "the second start wrote the file again";
    }
  }
}

TEST_F(PackedWeights, TheSecondStartDoesNotLookAtTheWeights) {
  const auto expected = logits(options());
  // Codes in the middle of the checkpoint become others, which size, time and samples do not show.
  const fs::path shard = model_ / "model.safetensors";
  ASSERT_TRUE(fs::exists(shard));
  const auto time = fs::last_write_time(shard);
  auto source = open_model_source(model_.string());
  ASSERT_TRUE(source.ok());
  Bytes bytes = read(shard);
  for (const TensorInfo& info : source->tensors->tensors()) {
    if (!info.name.ends_with(".group_offset")) continue;
    const auto tensor = source->tensors->bytes(info.name);
    ASSERT_TRUE(tensor.ok());
    const Bytes whole = read(shard);
    const auto* at = static_cast<const char*>(
        ::memmem(whole.data(), whole.size(), tensor->data(), tensor->size()));
    ASSERT_NE(at, nullptr);
    std::fill_n(bytes.begin() + (at - whole.data()), tensor->size(), '\0');
  }
  write(shard, bytes);
  fs::last_write_time(shard, time);
  EXPECT_NE(logits(options(false)), expected);
  EXPECT_EQ(logits(options()), expected);
}

TEST_F(PackedWeights, AnyDamagedByteIsFound) {
  const auto expected = logits(options(false));
  ASSERT_EQ(logits(options()), expected);
  const Bytes good = read(file());
  const PackedWeightsHeader header = header_of(good);
  // Not the gaps between matrices, which nobody reads.
  const auto in_a_matrix = [&](std::size_t at) {
    for (const PackedMatrixEntry& entry : header.matrices) {
      if (at >= entry.offset && at < entry.end()) return true;
    }
    return at < header.header_bytes();
  };
  for (int round = 0; round < 24; ++round) {
    std::size_t at = 0;
    do {
      at = random_() % (round % 3 == 0 ? header.header_bytes() : good.size());
    } while (!in_a_matrix(at));
    SCOPED_TRACE("byte " + std::to_string(at));
    Bytes bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << random_() % 8));
    expect_replaced(bad, good, expected);
  }
}

TEST_F(PackedWeights, AFileOfAnotherLengthIsReplaced) {
  const auto expected = logits(options(false));
  ASSERT_EQ(logits(options()), expected);
  const Bytes good = read(file());
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{64}, std::size_t{100},
                                 random_() % good.size(), good.size() - 1, good.size() + 1}) {
    SCOPED_TRACE(size);
    Bytes bad = good;
    bad.resize(size);
    expect_replaced(bad, good, expected);
  }
}

TEST_F(PackedWeights, MatricesInEachOthersPlaceAreFound) {
  const auto expected = logits(options(false));
  ASSERT_EQ(logits(options()), expected);
  const Bytes good = read(file());
  PackedWeightsHeader header = header_of(good);
  // The same matrix of two layers, with the checksums that belong to them.
  const std::size_t a = 0;
  std::size_t b = 1;
  const auto alike = [&] {
    return header.matrices[a].bytes == header.matrices[b].bytes &&
           header.matrices[a].n == header.matrices[b].n;
  };
  while (b < header.matrices.size() && !alike()) ++b;
  ASSERT_LT(b, header.matrices.size());
  Bytes bad = good;
  const auto size =
      static_cast<std::ptrdiff_t>(header.matrices[a].end() - header.matrices[a].offset);
  std::swap_ranges(bad.begin() + static_cast<std::ptrdiff_t>(header.matrices[a].offset),
                   bad.begin() + static_cast<std::ptrdiff_t>(header.matrices[a].offset) + size,
                   bad.begin() + static_cast<std::ptrdiff_t>(header.matrices[b].offset));
  std::swap(header.matrices[a].checksum, header.matrices[b].checksum);
  put_header(header, bad);
  expect_replaced(bad, good, expected);
}

TEST_F(PackedWeights, AFileMadeForSomethingElseIsReplaced) {
  const auto expected = logits(options(false));
  ASSERT_EQ(logits(options()), expected);
  const Bytes good = read(file());
  const std::vector<std::function<void(PackedWeightsHeader&)>> changes{
      [](auto& header) {
        header.key.isa = header.key.isa == Isa::kScalar ? Isa::kAvx2 : Isa::kScalar;
      },
      [](auto& header) { header.key.precision = Precision::kW8A8; },
      [](auto& header) { ++header.key.fingerprint; },
      [](auto& header) { header.matrices[1].k += 2; },
      [](auto& header) { header.matrices[1].n -= 1; },
      [](auto& header) { header.matrices[1].group_size = 128; },
      [](auto& header) {
        header.matrices[1].kind = WeightView::Kind::kInt8;
        header.matrices[1].group_size = 0;
      },
  };
  for (const auto& change : changes) {
    Bytes bad = good;
    PackedWeightsHeader header = header_of(good);
    change(header);
    put_header(header, bad);
    expect_replaced(bad, good, expected);
  }
  for (const std::size_t word : {1, 2}) {  // the versions
    Bytes bad = good;
    ++bad[8 * word];
    const std::size_t checked = header_of(good).header_bytes() - 8;
    const auto sum = siphash({}, std::as_bytes(std::span(bad)).first(checked));
    std::memcpy(bad.data() + checked, &sum, sizeof sum);
    expect_replaced(bad, good, expected);
  }
}

TEST_F(PackedWeights, AnotherCheckpointInTheFolderIsSeen) {
  ASSERT_FALSE(logits(options()).empty());
  const Bytes old = read(file());
  fs::last_write_time(model_ / "model.safetensors", fs::file_time_type::clock::now());
  ASSERT_FALSE(logits(options()).empty());
  EXPECT_NE(read(file()), old) << "the file's key should have the new time";
}

// What a kernel relies on holds even when whoever wrote the file made all checksums fit.
class BadValues : public PackedWeights {
 protected:
  // Reads `matrix` as `spoil` changed it; there are no checksums at this level.
  Status read_with(
      const std::function<void(std::vector<std::uint8_t>&, std::vector<float>&)>& spoil,
      const PackedView& matrix) {
    class Reader final : public PackedReader {
     public:
      Reader(const std::vector<std::uint8_t>& panels, const std::vector<float>& scales,
             std::size_t panel_bytes)
          : panels_(panels), scales_(scales), panel_bytes_(panel_bytes) {}
      Status read_panels(std::int64_t first, std::span<std::uint8_t> into) override {
        std::memcpy(into.data(), panels_.data() + static_cast<std::size_t>(first) * panel_bytes_,
                    into.size());
        return ok_status();
      }
      Status read_scales(std::span<float> into) override {
        std::copy(scales_.begin(), scales_.end(), into.begin());
        return ok_status();
      }

     private:
      const std::vector<std::uint8_t>& panels_;
      const std::vector<float>& scales_;
      std::size_t panel_bytes_;
    };
    std::vector<std::uint8_t> panels(matrix.panels, matrix.panels + matrix.layout.bytes());
    std::vector<float> scales(matrix.channel_scale.begin(), matrix.channel_scale.end());
    spoil(panels, scales);
    Reader reader(panels, scales, static_cast<std::size_t>(matrix.layout.panel_bytes));
    WeightView form;
    form.kind = matrix.kind;
    form.name = "test.layer";
    form.n = matrix.n;
    form.k = matrix.k;
    form.group_size = matrix.group_size;
    ThreadPool pool(2);
    return read_linear(std::span(&form, 1), best_isa(), pool, nullptr, reader).status();
  }
};

TEST_F(BadValues, AreRefused) {
  auto source = open_model_source(model_.string());
  ASSERT_TRUE(source.ok());
  auto model = load_model(*source, options(false));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  int quantised = 0;
  for (const CpuLinear* linear : static_cast<CpuBackend&>(*model->backend).packed_matrices()) {
    const PackedView matrix = linear->packed();
    EXPECT_TRUE(read_with([](auto&, auto&) {}, matrix).ok());
    for (const float scale : {0.0f, -1.0f, 1e-42f, std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
      const auto row = random_() % matrix.channel_scale.size();
      EXPECT_FALSE(read_with([&](auto&, auto& scales) { scales[row] = scale; }, matrix).ok());
    }
    if (matrix.kind != WeightView::Kind::kLiquid4) continue;
    ++quantised;
    const std::int64_t panel =
        static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(matrix.layout.panels));
    const auto head = static_cast<std::size_t>(panel * matrix.layout.panel_bytes);
    const auto row = random_() % 32;
    for (const std::uint8_t step : {0, 17, 255}) {
      EXPECT_FALSE(read_with([&](auto& panels, auto&) { panels[head + row] = step; }, matrix).ok());
    }
    for (const std::uint8_t code : {0x0F, 0xF0}) {
      const auto high = [&](int offset) {
        return read_with(
            [&](auto& panels, auto&) {
              panels[head + row] = 16;
              panels[head + 32 + row] = static_cast<std::uint8_t>(offset);
              for (int i = 0; i < 4; ++i) {
                for (std::size_t chunk = 0; chunk < 4; ++chunk) {
                  panels[head + 64 + chunk * 128 + 4 * row + static_cast<std::size_t>(i)] = code;
                }
              }
            },
            matrix);
      };
      EXPECT_TRUE(high(15).ok());
      EXPECT_FALSE(high(16).ok());
    }
  }
  EXPECT_GT(quantised, 0);
}

TEST_F(PackedWeights, AFolderThatTakesNoFilesIsNoReasonToStop) {
  if (::geteuid() == 0) {
    // Permissions do not stop root; a folder in the file's place does.
    fs::create_directory(file());
    EXPECT_EQ(logits(options()), logits(options(false)));
    EXPECT_TRUE(fs::is_directory(file()));
    return;
  }
  fs::permissions(model_, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(logits(options()), logits(options(false)));
  EXPECT_FALSE(fs::exists(file()));
}

TEST_F(PackedWeights, ANamedPipeInItsPlaceDoesNotHang) {
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  const auto expected = logits(options(false));
  EXPECT_EQ(logits(options()), expected);
  EXPECT_EQ(logits(options()), expected);
  EXPECT_TRUE(fs::is_regular_file(file()));
}

TEST_F(PackedWeights, WritersAtOnceLeaveOneGoodFile) {
  const auto expected = logits(options(false));
  std::vector<std::thread> starts;
  std::vector<std::vector<std::vector<float>>> got(4);
  for (std::size_t i = 0; i < got.size(); ++i) {
    starts.emplace_back([&, i] { got[i] = logits(options()); });
  }
  for (std::thread& start : starts) start.join();
  for (const auto& logits : got) EXPECT_EQ(logits, expected);
  const std::int64_t first = written(file());
  EXPECT_EQ(logits(options()), expected);
  EXPECT_EQ(written(file()), first);
  for (const auto& entry : fs::directory_iterator(model_)) {
    EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
  }
}

TEST_F(PackedWeights, AModelInOneFileHasItsOwnPlace) {
  const PackedWeightsKey key{Isa::kScalar, Precision::kW8A8, 0x1234};
  EXPECT_EQ(packed_weights_path("/models/a.gguf", "/cache", key),
            "/cache/a-0000000000001234.packed-weights.w8a8.scalar");
}

}  // namespace
}  // namespace liquidgemm
