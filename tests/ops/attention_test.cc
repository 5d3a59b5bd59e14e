// Attention: bit-equal on every instruction set, against the contract spelled out, against double
// precision, and independent of which queries share a call.
#include <algorithm>

#include "base/half.h"
#include "gemm/numerics.h"
#include "ops_test_util.h"

namespace liquidgemm::ops_test {
namespace {

constexpr std::uint16_t kNanHalf = 0x7FC0;  // f16 or bf16

enum class Form { kF16, kBf16, kInt8 };
constexpr Form kForms[] = {Form::kF16, Form::kBf16, Form::kInt8};
const char* name_of(Form form) {
  return form == Form::kF16 ? "f16" : form == Form::kBf16 ? "bf16" : "int8";
}

// The cache of one KV head: pages as the backend lays them out, in one block each, with slots past
// the last token poisoned by NaN.
struct Cache {
  Form form = Form::kF16;
  std::int64_t tokens = 0;
  std::int64_t head_dim = 0;
  std::vector<std::vector<std::uint16_t>> f16;  // a page: K then V
  std::vector<std::vector<Bf16>> bf16;
  std::vector<std::vector<std::int8_t>> codes;
  std::vector<std::vector<float>> scales;
  std::vector<KvPageView> pages;

  bool int8() const { return form == Form::kInt8; }
  // Where dimension d of the key or the value in a page's slot lies.
  std::size_t key_at(std::int64_t slot, std::int64_t d) const {
    return static_cast<std::size_t>(d * kPageTokens + slot);
  }
  std::size_t value_at(std::int64_t slot, std::int64_t d) const {
    return static_cast<std::size_t>((kPageTokens + slot) * head_dim + d);
  }
  float key(std::int64_t t, std::int64_t d) const { return element(t, key_at(t % kPageTokens, d)); }
  float value(std::int64_t t, std::int64_t d) const {
    return element(t, value_at(t % kPageTokens, d));
  }
  float key_scale(std::int64_t t) const { return int8() ? page_scales(t)[t % kPageTokens] : 1.0f; }
  float value_scale(std::int64_t t) const {
    return int8() ? page_scales(t)[kPageTokens + t % kPageTokens] : 1.0f;
  }

 private:
  const float* page_scales(std::int64_t t) const {
    return scales[static_cast<std::size_t>(t / kPageTokens)].data();
  }
  float element(std::int64_t t, std::size_t at) const {
    const std::size_t page = static_cast<std::size_t>(t / kPageTokens);
    if (int8()) return static_cast<float>(codes[page][at]);
    return form == Form::kBf16 ? bf16_to_float(static_cast<std::uint16_t>(bf16[page][at]))
                               : f16_to_float(f16[page][at]);
  }
};

Cache make_cache(std::mt19937_64& rng, Form form, std::int64_t tokens, std::int64_t head_dim) {
  Cache cache;
  cache.form = form;
  const bool int8 = cache.int8();
  cache.tokens = tokens;
  cache.head_dim = head_dim;
  const std::int64_t pages = pages_for(tokens);
  const std::size_t page_values = static_cast<std::size_t>(kPageTokens * head_dim);
  const CpuOps& ops = cpu_ops(Isa::kScalar);
  cache.pages.resize(static_cast<std::size_t>(pages));
  for (std::int64_t p = 0; p < pages; ++p) {
    cache.f16.emplace_back(form == Form::kF16 ? 2 * page_values : 0, kNanHalf);
    cache.bf16.emplace_back(form == Form::kBf16 ? 2 * page_values : 0, Bf16{kNanHalf});
    cache.codes.emplace_back(int8 ? 2 * page_values : 0, std::int8_t{-128});
    cache.scales.emplace_back(int8 ? 2 * kPageTokens : 0, kNan);
    KvPageView& view = cache.pages[static_cast<std::size_t>(p)];
    if (int8) {
      view.k_int8 = cache.codes.back().data();
      view.v_int8 = view.k_int8 + page_values;
      view.k_scale = cache.scales.back().data();
      view.v_scale = view.k_scale + kPageTokens;
    } else if (form == Form::kBf16) {
      view.k_bf16 = cache.bf16.back().data();
      view.v_bf16 = view.k_bf16 + page_values;
    } else {
      view.k_f16 = cache.f16.back().data();
      view.v_f16 = view.k_f16 + page_values;
    }
    for (std::int64_t slot = 0; slot < kPageTokens && p * kPageTokens + slot < tokens; ++slot) {
      for (const bool is_key : {true, false}) {
        const std::vector<float> row = random_floats(rng, head_dim, 1.5f);
        std::vector<std::uint16_t> f16(row.size());
        std::vector<Bf16> bf16(row.size());
        std::vector<std::int8_t> codes(row.size());
        if (int8) {
          cache.scales.back()[static_cast<std::size_t>((is_key ? 0 : kPageTokens) + slot)] =
              ops.to_int8(row.data(), codes.data(), head_dim);
        } else if (form == Form::kBf16) {
          ops.to_bf16(row.data(), bf16.data(), head_dim);
        } else {
          ops.to_f16(row.data(), f16.data(), head_dim);
        }
        for (std::int64_t d = 0; d < head_dim; ++d) {
          const std::size_t at = is_key ? cache.key_at(slot, d) : cache.value_at(slot, d);
          const auto from = static_cast<std::size_t>(d);
          if (int8) {
            cache.codes.back()[at] = codes[from];
          } else if (form == Form::kBf16) {
            cache.bf16.back()[at] = bf16[from];
          } else {
            cache.f16.back()[at] = f16[from];
          }
        }
      }
    }
  }
  return cache;
}

struct Parts {
  explicit Parts(std::int64_t queries, std::int64_t head_dim)
      : out(static_cast<std::size_t>(queries * head_dim + 64), kPoison),
        part(static_cast<std::size_t>(queries)) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      part[i] = {kPoison, kPoison, out.data() + i * static_cast<std::size_t>(head_dim)};
    }
  }
  std::vector<float> out;  // 64 floats of guard at the end
  std::vector<AttentionPart> part;

  std::vector<float> numbers() const {
    std::vector<float> all = out;
    for (const AttentionPart& p : part) {
      all.push_back(p.max + 0.0f);
      all.push_back(p.sum);
    }
    return all;
  }
};

Parts run_split(const CpuOps& ops, const Cache& cache, std::int64_t first, std::int64_t tokens,
                const std::vector<float>& q, std::int64_t queries, float scale) {
  Parts parts(queries, cache.head_dim);
  std::vector<float> scratch(static_cast<std::size_t>(attention_scratch_floats(queries)), kNan);
  ops.attention_split(q.data(), queries, cache.pages.data() + first / kPageTokens, tokens,
                      cache.head_dim, scale, parts.part.data(), scratch.data());
  return parts;
}

// numerics.h's words as code, one query.
void contract_part(const Cache& cache, std::int64_t tokens, const float* q, float scale,
                   AttentionPart* part) {
  const std::int64_t head_dim = cache.head_dim;
  const auto fold = [](float* lane) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] = lane[i] + lane[i + half];
    }
    return lane[0];
  };
  std::vector<float> score(static_cast<std::size_t>(tokens));
  part->max = -kInf;
  for (std::int64_t t = 0; t < tokens; ++t) {
    float s = 0.0f;
    for (std::int64_t d = 0; d < head_dim; ++d) s = fmaf(q[d], cache.key(t, d), s);
    if (cache.int8()) s = s * cache.key_scale(t);
    s = s * scale;
    score[static_cast<std::size_t>(t)] = s;
    part->max = std::max(part->max, s);
  }
  float lane[16] = {};
  for (std::int64_t d = 0; d < head_dim; ++d) part->out[d] = 0.0f;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float p = numerics::exp_contract(score[static_cast<std::size_t>(t)] - part->max);
    lane[t % 16] = lane[t % 16] + p;
    const float weight = cache.int8() ? p * cache.value_scale(t) : p;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      part->out[d] = fmaf(weight, cache.value(t, d), part->out[d]);
    }
  }
  part->sum = fold(lane);
}

std::vector<double> double_attention(const Cache& cache, const float* q, float scale) {
  std::vector<double> score;
  double most = -1e300;
  for (std::int64_t t = 0; t < cache.tokens; ++t) {
    double s = 0.0;
    for (std::int64_t d = 0; d < cache.head_dim; ++d) {
      s += static_cast<double>(q[d]) * cache.key(t, d);
    }
    score.push_back(s * cache.key_scale(t) * scale);
    most = std::max(most, score.back());
  }
  std::vector<double> out(static_cast<std::size_t>(cache.head_dim), 0.0);
  double sum = 0.0;
  for (std::int64_t t = 0; t < cache.tokens; ++t) {
    const double p = std::exp(score[static_cast<std::size_t>(t)] - most);
    sum += p;
    for (std::int64_t d = 0; d < cache.head_dim; ++d) {
      out[static_cast<std::size_t>(d)] += p * cache.value(t, d) * cache.value_scale(t);
    }
  }
  for (double& value : out) value /= sum;
  return out;
}

TEST(Attention, OneSplitFollowsTheContractOnEveryIsa) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const std::int64_t head_dim : {64, 128, 80, 24, 72, 256, 10, 512, 16}) {
    for (const std::int64_t tokens : {1, 2, 15, 16, 17, 63, 64, 65, 130, 255, 256}) {
      if (kSanitized && tokens > 65 && head_dim > 64) continue;
      for (const Form form : kForms) {
        const Cache cache = make_cache(rng, form, tokens, head_dim);
        const std::int64_t queries = 1 + static_cast<std::int64_t>(rng() % 9);
        const std::vector<float> q = random_floats(rng, queries * head_dim);
        const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
        Parts want(queries, head_dim);
        for (std::int64_t i = 0; i < queries; ++i) {
          contract_part(cache, tokens, q.data() + i * head_dim, scale,
                        &want.part[static_cast<std::size_t>(i)]);
        }
        for (const Isa isa : all_isas()) {
          const Parts got = run_split(cpu_ops(isa), cache, 0, tokens, q, queries, scale);
          ASSERT_TRUE(same_bits(got.numbers(), want.numbers()))
              << isa_name(isa) << ", head_dim " << head_dim << ", tokens " << tokens << ", queries "
              << queries << ", " << name_of(form);
        }
      }
    }
  }
}

TEST(Attention, SplitsCombineToTheWholeContext) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (const std::int64_t tokens : {1, 2, 63, 64, 65, 255, 256, 257, 700, 1024}) {
    if (kSanitized && tokens > 300) continue;
    for (const Form form : kForms) {
      const std::int64_t head_dim = rng() % 2 ? 64 : 128;
      const Cache cache = make_cache(rng, form, tokens, head_dim);
      const std::vector<float> q = random_floats(rng, head_dim, 2.0f);
      const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
      const std::vector<double> want = double_attention(cache, q.data(), scale);
      std::vector<float> scalar;
      for (const Isa isa : all_isas()) {
        const CpuOps& ops = cpu_ops(isa);
        Parts total(1, head_dim);
        for (std::int64_t t = 0; t < tokens; t += numerics::kAttentionSplit) {
          const std::int64_t count = std::min<std::int64_t>(tokens - t, numerics::kAttentionSplit);
          Parts part = run_split(ops, cache, t, count, q, 1, scale);
          if (t == 0) {
            total = std::move(part);
          } else {
            ops.attention_combine(total.part.data(), part.part.data(), head_dim);
          }
        }
        std::vector<float> out(static_cast<std::size_t>(head_dim), kPoison);
        ops.attention_finish(total.part.data(), out.data(), head_dim);
        if (isa == Isa::kScalar) scalar = out;
        EXPECT_TRUE(same_bits(out, scalar)) << isa_name(isa);
        for (std::size_t d = 0; d < out.size(); ++d) EXPECT_NEAR(out[d], want[d], 2e-5);
      }
    }
  }
}

TEST(Attention, CombineFollowsTheContractAtOddWidths) {
  std::mt19937_64 rng(fresh_seed());
  for (const std::int64_t head_dim : {1, 10, 16, 40, 64}) {
    for (const float gap : {0.0f, 3.0f, -3.0f, 300.0f, -300.0f}) {
      const std::vector<float> a = random_floats(rng, head_dim), b = random_floats(rng, head_dim);
      const float m = std::max(0.5f, 0.5f + gap);
      const float x = numerics::exp_contract(0.5f - m), y = numerics::exp_contract(0.5f + gap - m);
      for (const Isa isa : all_isas()) {
        std::vector<float> out = a, second = b, final_out(a.size(), kPoison);
        AttentionPart total = {0.5f, 2.0f, out.data()};
        const AttentionPart part = {0.5f + gap, 7.0f, second.data()};
        cpu_ops(isa).attention_combine(&total, &part, head_dim);
        cpu_ops(isa).attention_finish(&total, final_out.data(), head_dim);
        EXPECT_EQ(total.max, m);
        EXPECT_EQ(total.sum, 2.0f * x + 7.0f * y);
        for (std::size_t d = 0; d < a.size(); ++d) {
          EXPECT_TRUE(same_bits(out[d], a[d] * x + b[d] * y));
          EXPECT_TRUE(same_bits(final_out[d], out[d] / total.sum));
        }
      }
    }
  }
}

// What prefill relies on: rows share a call, each with its own causal end, and nothing that a row
// does not see (a NaN in a later token, the other queries) reaches it.
TEST(Attention, RowsInOneCallEqualRowsAlone) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(seed);
  std::mt19937_64 rng(seed);
  for (int round = 0; round < (kSanitized ? 6 : 40); ++round) {
    const std::int64_t head_dim = std::vector<std::int64_t>{64, 128, 72, 32}[rng() % 4];
    const std::int64_t group = 1 + static_cast<std::int64_t>(rng() % 8);
    const std::int64_t rows = 1 + static_cast<std::int64_t>(rng() % 20);
    const std::int64_t visible = 1 + static_cast<std::int64_t>(rng() % 256);
    const std::int64_t tokens = std::min<std::int64_t>(256, visible + rows - 1);
    const std::int64_t row_stride = group * head_dim + static_cast<std::int64_t>(rng() % 3) * 16;
    Cache cache = make_cache(rng, kForms[rng() % 3], tokens, head_dim);
    if (tokens > visible && !cache.int8()) {
      // The last token is broken: only rows that see it may notice.
      const std::size_t page = static_cast<std::size_t>((tokens - 1) / kPageTokens);
      const std::int64_t slot = (tokens - 1) % kPageTokens;
      for (const std::size_t at : {cache.key_at(slot, 0), cache.value_at(slot, 0)}) {
        if (cache.form == Form::kF16) cache.f16[page][at] = kNanHalf;
        if (cache.form == Form::kBf16) cache.bf16[page][at] = Bf16{kNanHalf};
      }
    }
    const std::vector<float> q = random_floats(rng, rows * row_stride);
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    for (const Isa isa : all_isas()) {
      const CpuOps& ops = cpu_ops(isa);
      Parts together(rows * group, head_dim);
      std::vector<float> scratch(static_cast<std::size_t>(attention_scratch_floats(rows * group)),
                                 kNan);
      ops.attention_rows(q.data(), rows, row_stride, group, visible, cache.pages.data(), tokens,
                         head_dim, scale, rng() % 2 ? cache.pages[0] : KvPageView{},
                         together.part.data(), scratch.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t seen = std::min(tokens, visible + r);
        for (std::int64_t g = 0; g < group; ++g) {
          const float* query = q.data() + r * row_stride + g * head_dim;
          const Parts alone =
              run_split(ops, cache, 0, seen, std::vector<float>(query, query + head_dim), 1, scale);
          const AttentionPart& part = together.part[static_cast<std::size_t>(r * group + g)];
          ASSERT_TRUE(same_bits(part.max, alone.part[0].max));
          ASSERT_TRUE(same_bits(part.sum, alone.part[0].sum));
          for (std::int64_t d = 0; d < head_dim; ++d) {
            ASSERT_TRUE(same_bits(part.out[d], alone.part[0].out[d]))
                << isa_name(isa) << ", row " << r << ", seen " << seen;
          }
        }
      }
      for (std::size_t i = 0; i < 64; ++i) {
        ASSERT_EQ(together.out[together.out.size() - 1 - i], kPoison);
      }
    }
  }
}

TEST(Attention, ANanInTheQueryReachesItsOutputsAndNoOther) {
  std::mt19937_64 rng(fresh_seed());
  const Cache cache = make_cache(rng, Form::kF16, 100, 64);
  std::vector<float> q = random_floats(rng, 3 * 64);
  q[64 + 5] = kNan;
  for (const Isa isa : all_isas()) {
    const Parts parts = run_split(cpu_ops(isa), cache, 0, 100, q, 3, 0.125f);
    for (int i = 0; i < 3 * 64; ++i) {
      EXPECT_EQ(std::isnan(parts.out[static_cast<std::size_t>(i)]), i / 64 == 1);
    }
    EXPECT_TRUE(std::isnan(parts.part[1].sum));
  }
}

}  // namespace
}  // namespace liquidgemm::ops_test
