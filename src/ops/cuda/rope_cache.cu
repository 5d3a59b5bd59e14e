// Norm over heads, rotation and the write to the KV cache: 8 lanes a head of 64 dimensions, 16 a
// head of 128. The heads of a block are all queries, all keys or all values.
//
// A rotation takes dimension i and i + head_dim / 2, so lane l has four dimensions from either half
// of a head, those that begin at 4 l and at head_dim / 2 + 4 l. Lanes with 4 l >= head_dim / 2 have
// none: they hold zeros and write the padding behind head_dim, eight dimensions each.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "gemm/cuda/cuda_status.h"
#include "gemm/cuda/launch.h"
#include "gemm/cuda/ptx/arithmetic.h"
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/row_checks.h"
#include "gemm/numerics.h"
#include "ops/cuda/kv4_quotient.cuh"
#include "ops/cuda/rows.h"
#include "ops/kv_static.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;
// Of a multiprocessor: a step of 256 rows and 48 heads is 1,536 blocks, which 132 hold at once.
constexpr int kResidentBlocks = 12;

__device__ float4 load_four(const float* from) { return *reinterpret_cast<const float4*>(from); }

// Rounded to nearest even: to bf16 where the cache is, otherwise to f16.
template <KvElement kElement>
__device__ std::uint32_t rounded_pair(float low, float high) {
  const auto bits = [](float x) -> std::uint32_t {
    if constexpr (kElement == KvElement::kBf16) {
      return __bfloat16_as_ushort(__float2bfloat16_rn(x));
    } else {
      return __half_as_ushort(__float2half_rn(x));
    }
  };
  return bits(low) | bits(high) << 16;
}
template <KvElement kElement>
__device__ uint2 rounded_word(const float4& four) {
  return make_uint2(rounded_pair<kElement>(four.x, four.y), rounded_pair<kElement>(four.z, four.w));
}

// The lanes that share a head. All lanes of a warp do the same, so that exchanges are of them all.
template <int kLanes>
struct HeadLanes {
  static constexpr unsigned kWarp = 0xFFFFFFFFu;
  int lane = static_cast<int>(threadIdx.x % kLanes);

  template <typename T>
  __device__ T exchange(T value, int apart) const {
    return __shfl_xor_sync(kWarp, value, apart);
  }
  // What the lane `from` of this head has.
  template <typename T>
  __device__ T take(T value, int from) const {
    return __shfl_sync(kWarp, value, from, kLanes);
  }
  // `step`(apart) combines what lanes so far apart have.
  template <typename Step>
  __device__ void fold(const Step& step) const {
#pragma unroll
    for (int apart = kLanes / 2; apart > 0; apart /= 2) step(apart);
  }
};

// ---- Norm --------------------------------------------------------------------------------------

// One addition of four sums of the contract's tree, with those `apart` lanes away. The lower lane
// goes on with the first half of the sums, the upper with the second.
template <int kCount, int kLanes>
__device__ void fold_and_share(float (&sums)[4], const HeadLanes<kLanes>& lanes, int apart) {
  const bool upper = (lanes.lane & apart) != 0;
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float mine = upper ? sums[i + kCount / 2] : sums[i];
    const float other = upper ? sums[i] : sums[i + kCount / 2];
    sums[i] = mine + lanes.exchange(other, apart);
  }
}

// The sum of squares of a head in the contract's tree; x: where the lane's first four lie. The 1024
// lanes of the tree beyond head_dim are 0, and sums of squares are never -0: the tree begins with
// halves of kWidth / 2.
template <int kWidth>
__device__ float sum_of_squares(const float* x, int head_dim, const float4& first,
                                const float4& second, const HeadLanes<kWidth / 8>& lanes) {
  constexpr int kLanes = kWidth / 8;
  float4 low = first;
  float4 high = second;
  if (head_dim != kWidth) {
    // The halves of the tree are not those of the rotation.
    const int d = 4 * lanes.lane;
    low = high = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (d < head_dim) low = load_four(x);
    if (d + kWidth / 2 < head_dim) high = load_four(x + kWidth / 2);
  }
  float sums[4] = {low.x * low.x + high.x * high.x, low.y * low.y + high.y * high.y,
                   low.z * low.z + high.z * high.z, low.w * low.w + high.w * high.w};
  // Sum i of lane l is number 4 l + i of kWidth / 2. Halves that lie in other lanes first; each of
  // the lanes keeps one of the four sums, in the order in which their own halves come last.
  fold_and_share<4>(sums, lanes, kLanes / 2);
  fold_and_share<2>(sums, lanes, kLanes / 4);
  float sum = sums[0];
#pragma unroll
  for (int apart = kLanes / 8; apart > 0; apart /= 2) sum = sum + lanes.exchange(sum, apart);
  sum = sum + lanes.exchange(sum, kLanes / 2);
  return sum + lanes.exchange(sum, kLanes / 4);
}

__device__ void apply_norm(float4& four, float reciprocal, const float4& weight) {
  four.x = numerics::rms_apply(four.x, reciprocal, weight.x);
  four.y = numerics::rms_apply(four.y, reciprocal, weight.y);
  four.z = numerics::rms_apply(four.z, reciprocal, weight.z);
  four.w = numerics::rms_apply(four.w, reciprocal, weight.w);
}

// ---- Rotation ----------------------------------------------------------------------------------

__device__ void rotate(float& a, float& b, float cos, float sin) {
  const float first = a * cos - b * sin;
  b = b * cos + a * sin;
  a = first;
}
__device__ void rotate(float4& a, float4& b, const float4& cos, const float4& sin) {
  rotate(a.x, b.x, cos.x, sin.x);
  rotate(a.y, b.y, cos.y, sin.y);
  rotate(a.z, b.z, cos.z, sin.z);
  rotate(a.w, b.w, cos.w, sin.w);
}

// ---- Into a page -------------------------------------------------------------------------------

// Eight values of one lane.
struct LaneValues {
  float4 first, second;
  bool real;  // not padding
};

// `combine`d over the eight of them.
template <typename T, typename Map, typename Combine>
__device__ T reduce_values(const LaneValues& values, const Map& map, const Combine& combine) {
  const auto four = [&](const float4& x) -> T {
    return combine(combine(map(x.x), map(x.y)), combine(map(x.z), map(x.w)));
  };
  return combine(four(values.first), four(values.second));
}

// As int8_word() has them, 128 added.
__device__ std::uint32_t int8_codes(const float4& four, float reciprocal) {
  std::int32_t sum = 0;  // nobody needs it
  return quantize_four({four.x, four.y, four.z, four.w}, reciprocal, sum) ^ 0x80808080u;
}

__device__ std::uint32_t static_codes(const float4& four, const float4& reciprocal) {
  const int codes[4] = {numerics::kv_static_code(four.x, reciprocal.x),
                        numerics::kv_static_code(four.y, reciprocal.y),
                        numerics::kv_static_code(four.z, reciprocal.z),
                        numerics::kv_static_code(four.w, reciprocal.w)};
  return int8_word(codes);
}
__device__ void multiply(float4& four, const float4& factor) {
  four.x = four.x * factor.x;
  four.y = four.y * factor.y;
  four.z = four.z * factor.z;
  four.w = four.w * factor.w;
}

// A lane's eight codes of int4: what its first four are in a word, then its second four. In a word
// the lower four dimensions are bytes 0 and 2, the upper four bytes 1 and 3; here they follow each
// other.
static_assert(int4_nibble(0) == 0 && int4_nibble(2) == 1 && int4_nibble(1) == 4 &&
              int4_nibble(3) == 5 && int4_nibble(4) == 2 && int4_nibble(6) == 3 &&
              int4_nibble(5) == 6 && int4_nibble(7) == 7);
__device__ std::uint32_t int4_codes(const LaneValues& values, const Kv4Quotient& row) {
  const auto two_bytes = [&](const float4& four) {
    return __byte_perm(row.nibble(four.x) + 16 * row.nibble(four.z),
                       row.nibble(four.y) + 16 * row.nibble(four.w), 0x0040);
  };
  return __byte_perm(two_bytes(values.first), two_bytes(values.second), 0x5410);
}

// The word that begins with dimension 8 * lane: fours number 2 * lane and the next of the head.
// Four i is lane i's first, or the second of the lane that is `reals` lower, the lanes that have
// values.
template <int kLanes>
__device__ std::uint32_t int4_word_of_lane(std::uint32_t codes, const HeadLanes<kLanes>& lanes,
                                           int reals) {
  const int lower = 2 * lanes.lane;
  const bool lower_is_second = lower >= reals;
  const bool upper_is_second = lower + 1 >= reals;
  const std::uint32_t of_lower = lanes.take(codes, lower - (lower_is_second ? reals : 0));
  const std::uint32_t of_upper = lanes.take(codes, lower + 1 - (upper_is_second ? reals : 0));
  return __byte_perm(of_lower, of_upper,
                     (lower_is_second ? 0x0302u : 0x0100u) | (upper_is_second ? 0x7060u : 0x5040u));
}

// Where a head's values go: offsets of the lane's words and of the token's parameters from `base`.
struct Destination {
  std::uint8_t* base;
  int first, second, parameters;

  template <typename T>
  __device__ void store(int offset, const T& value) const {
    *reinterpret_cast<T*>(base + offset) = value;
  }
};

template <KvElement kElement>
__device__ void store_floats(const LaneValues& values, const Destination& to) {
  to.store(to.first, rounded_word<kElement>(values.first));
  to.store(to.second, rounded_word<kElement>(values.second));
}

template <int kLanes>
__device__ void store_int8(const LaneValues& values, const HeadLanes<kLanes>& lanes,
                           const Destination& to) {
  const auto larger = [](std::uint32_t a, std::uint32_t b) { return max(a, b); };
  auto largest = reduce_values<std::uint32_t>(values, magnitude_bits, larger);
  lanes.fold([&](int apart) { largest = max(largest, lanes.exchange(largest, apart)); });
  const numerics::RowScale scale = row_scale_of_bits(largest);
  to.store(to.first, int8_codes(values.first, scale.reciprocal));
  to.store(to.second, int8_codes(values.second, scale.reciprocal));
  if (lanes.lane == 0) to.store(to.parameters, scale.scale);
}

template <int kLanes>
__device__ void store_int4(const LaneValues& values, const HeadLanes<kLanes>& lanes, int head_dim,
                           const Destination& to) {
  // Padding is no value of the row. A NaN is the least and the largest.
  const float infinity = __uint_as_float(kInfinityBits);
  const auto same = [](float x) { return x; };
  float low = values.real ? reduce_values<float>(values, same, ptx::min_or_nan) : infinity;
  float high = values.real ? reduce_values<float>(values, same, ptx::max_or_nan) : -infinity;
  lanes.fold([&](int apart) {
    low = ptx::min_or_nan(low, lanes.exchange(low, apart));
    high = ptx::max_or_nan(high, lanes.exchange(high, apart));
  });
  const bool finite = low > -infinity && high < infinity;
  const __half step = __float2half_rn(numerics::kv4_step(low, high, finite));
  const __half middle = __float2half_rn(numerics::kv4_middle(low, __half2float(step)));
  const Kv4Quotient row(__half2float(step), __half2float(middle));
  std::uint32_t word = int4_word_of_lane(int4_codes(values, row), lanes, head_dim / 8);
  // Padding is code 0.
  if (!row.is_usual() || !values.real) {
    word = 0x11111111u * static_cast<std::uint32_t>((values.real ? row.code() : 0) + 8);
  }
  to.store(to.first, word);
  if (lanes.lane == 0) {
    to.store(to.parameters, int4_parameters(__half_as_ushort(step), __half_as_ushort(middle)));
  }
}

// ---- The kernel --------------------------------------------------------------------------------

enum class Part { kKeys, kValues, kQueries };

template <KvElement kElement, int kWidth>
__global__ __launch_bounds__(kThreads, kResidentBlocks) void norm_rope_cache_kernel(
    NormRopeCacheArguments arguments) {
  ptx::launch_dependents();
  constexpr int kLanes = kWidth / 8;
  constexpr int kHeads = kThreads / kLanes;
  const HeadLanes<kLanes> lanes;
  const std::int64_t row = blockIdx.x;
  const KvPageShape shape{kElement, kWidth, arguments.shape.kv_heads, arguments.shape.layers};

  // Keys and values first: they take longest.
  const int cache_blocks = (shape.kv_heads + kHeads - 1) / kHeads;
  auto block = static_cast<int>(blockIdx.y);
  Part part = Part::kKeys;
  int part_begin = arguments.heads, part_heads = shape.kv_heads;
  if (block >= 2 * cache_blocks) {
    part = Part::kQueries;
    part_begin = 0;
    part_heads = arguments.heads;
    block -= 2 * cache_blocks;
  } else if (block >= cache_blocks) {
    part = Part::kValues;
    part_begin += shape.kv_heads;
    block -= cache_blocks;
  }
  int head = block * kHeads + static_cast<int>(threadIdx.x) / kLanes;
  if (head - static_cast<int>(threadIdx.x % 32) / kLanes >= part_heads) return;
  // Lanes that have no head join in for the last one, which is then written twice.
  head = min(head, part_heads - 1);

  const int head_dim = arguments.head_dim;
  const int half = head_dim / 2;
  // Pointers are to the lane's first four; its second lie `half` behind them.
  const int d = 4 * lanes.lane;
  const float* x = arguments.qkv + row * arguments.ld_qkv + (part_begin + head) * head_dim + d;
  LaneValues values;
  values.first = values.second = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  values.real = d < half;
  // Where the lane writes.
  const int first_d = values.real ? d : head_dim + 2 * (d - half);
  const int second_d = values.real ? half + d : first_d + 4;

  // What the kernel in front does not write is read before it has ended, and addresses are ready.
  const std::int32_t position = arguments.positions[row];
  Destination to{};
  if (part == Part::kQueries) {
    constexpr int kBytes = 2;  // f16 or bf16
    to.base = static_cast<std::uint8_t*>(arguments.q) +
              (row * arguments.heads + head) * (kWidth * kBytes);
    to.first = first_d * kBytes;
    to.second = second_d * kBytes;
  } else {
    const std::int32_t page = arguments.pages_of_rows[row];
    if (page < 0) return;
    const int token = position & (kKvPageTokens - 1);
    const auto word_of = [&](int dimension) {
      return part == Part::kKeys ? key_word_offset(kElement, kWidth, token, dimension)
                                 : value_word_offset(kElement, kWidth, token, dimension);
    };
    to.base = arguments.pages + page * kv_page_bytes(shape) +
              kv_head_page_offset(shape, arguments.layer, head);
    if constexpr (kElement == KvElement::kInt4) {
      to.first = word_of(8 * lanes.lane);
    } else {
      to.first = word_of(first_d);
      to.second = word_of(second_d);
    }
    to.parameters = part == Part::kKeys ? key_parameter_offset(kElement, kWidth, token)
                                        : value_parameter_offset(kElement, kWidth, token);
  }
  float4 cosines{}, sines{};
  if (values.real && part != Part::kValues) {
    const std::int64_t angles = std::int64_t{position} * half + d;
    cosines = load_four(arguments.cos + angles);
    sines = load_four(arguments.sin + angles);
  }
  ptx::wait_for_previous_kernel();
  if (values.real) {
    values.first = load_four(x);
    values.second = load_four(x + half);
  }
  const float* weight = part == Part::kQueries ? arguments.q_norm
                        : part == Part::kKeys  ? arguments.k_norm
                                               : nullptr;
  if (weight != nullptr) {
    const float squares = sum_of_squares<kWidth>(x, head_dim, values.first, values.second, lanes);
    const float reciprocal =
        numerics::rms_reciprocal(squares, static_cast<float>(head_dim), arguments.epsilon);
    if (values.real) {
      apply_norm(values.first, reciprocal, load_four(weight + d));
      apply_norm(values.second, reciprocal, load_four(weight + half + d));
    }
  }
  float4 first_factor{}, second_factor{};  // of a static cache; padding times 0 is code 0
  if constexpr (kElement == KvElement::kInt8Static) {
    const float* factor = part == Part::kQueries ? arguments.k_scale
                          : part == Part::kKeys  ? arguments.k_reciprocal
                                                 : arguments.v_reciprocal;
    const int kv_head = part == Part::kQueries ? head / (arguments.heads / shape.kv_heads) : head;
    factor += kv_head * head_dim + d;
    if (values.real) {
      first_factor = load_four(factor);
      second_factor = load_four(factor + half);
    }
  }
  if (values.real && part != Part::kValues) rotate(values.first, values.second, cosines, sines);

  if (part == Part::kQueries) {
    if constexpr (kElement == KvElement::kInt8Static) {
      multiply(values.first, first_factor);
      multiply(values.second, second_factor);
    }
    store_floats<kElement>(values, to);
  } else if constexpr (kv_is_float(kElement)) {
    store_floats<kElement>(values, to);
  } else if constexpr (kElement == KvElement::kInt8Static) {
    to.store(to.first, static_codes(values.first, first_factor));
    to.store(to.second, static_codes(values.second, second_factor));
  } else if constexpr (kElement == KvElement::kInt8) {
    store_int8(values, lanes, to);
  } else {
    store_int4(values, lanes, head_dim, to);
  }
}

template <KvElement kElement>
void launch(const NormRopeCacheArguments& arguments, CudaStream stream) {
  const auto rows = static_cast<unsigned>(arguments.rows);
  const auto run = [&](auto width) {
    constexpr int kHeads = kThreads / (width.value / 8);
    const dim3 grid(rows, blocks_for(arguments.heads, kHeads) +
                              2 * blocks_for(arguments.shape.kv_heads, kHeads));
    launch_early(norm_rope_cache_kernel<kElement, width.value>, grid, kThreads, 0, stream,
                 arguments);
  };
  if (arguments.shape.width == 64) {
    run(std::integral_constant<int, 64>{});
  } else {
    run(std::integral_constant<int, 128>{});
  }
}

}  // namespace

Status can_norm_rope_cache(const KvPageShape& shape, int heads, int head_dim) {
  const RowChecks check("norm_rope_cache");
  const auto is = [](const char* what, int value, const char* expected) {
    return std::string(what) + " is " + std::to_string(value) + ", expected " + expected;
  };
  constexpr int kMaxHeads = 1 << 16;
  if (head_dim < 8 || head_dim % 8 != 0 || head_dim > kKvMaxWidth) {
    return unsupported("CUDA: " + is("head_dim", head_dim, "a multiple of 8 up to 128"));
  }
  if (shape.width != kv_width(head_dim)) {
    return check.refused(is("the width of the pages", shape.width, "64 or 128, by head_dim"));
  }
  if (shape.layers < 1) return check.refused(is("the number of layers", shape.layers, "1 or more"));
  if (shape.kv_heads < 1 || shape.kv_heads > kMaxHeads || heads < 1 || heads > kMaxHeads) {
    return check.refused(is("the number of heads", heads, "1 to 65536") + " (" +
                         std::to_string(shape.kv_heads) + " of keys and values)");
  }
  return ok_status();
}

Status norm_rope_cache(const NormRopeCacheArguments& arguments, CudaStream stream) {
  const RowChecks check("norm_rope_cache");
  const KvPageShape& shape = arguments.shape;
  LIQUIDGEMM_RETURN_IF_ERROR(can_norm_rope_cache(shape, arguments.heads, arguments.head_dim));
  LIQUIDGEMM_RETURN_IF_ERROR(check.rows("rows", arguments.rows));
  const std::int64_t columns =
      (std::int64_t{arguments.heads} + 2 * shape.kv_heads) * arguments.head_dim;
  LIQUIDGEMM_RETURN_IF_ERROR(
      check.matrix("qkv", arguments.qkv, arguments.ld_qkv, columns, /*element_bytes=*/4, 16));
  for (const float* norm : {arguments.q_norm, arguments.k_norm}) {
    if (norm != nullptr) LIQUIDGEMM_RETURN_IF_ERROR(check.given("the norm's weights", norm, 16));
  }
  // Not >= 0 for a NaN.
  if (!(arguments.epsilon >= 0.0f)) return check.refused("epsilon is negative or not a number");
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("cos", arguments.cos, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("sin", arguments.sin, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the positions", arguments.positions));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the pages of the rows", arguments.pages_of_rows));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("the pages", arguments.pages, 16));
  LIQUIDGEMM_RETURN_IF_ERROR(check.given("q", arguments.q, 8));
  if (arguments.layer < 0 || arguments.layer >= shape.layers) {
    return check.refused("there is no layer " + std::to_string(arguments.layer));
  }
  switch (shape.element) {
    case KvElement::kF16: launch<KvElement::kF16>(arguments, stream); break;
    case KvElement::kBf16: launch<KvElement::kBf16>(arguments, stream); break;
    case KvElement::kInt8: launch<KvElement::kInt8>(arguments, stream); break;
    case KvElement::kInt8Static:
      for (const float* scales :
           {arguments.k_scale, arguments.k_reciprocal, arguments.v_reciprocal}) {
        LIQUIDGEMM_RETURN_IF_ERROR(check.given("the scales of the cache", scales, 16));
      }
      if (arguments.heads % shape.kv_heads != 0) {
        return check.refused("static scales need as many query heads for each KV head");
      }
      launch<KvElement::kInt8Static>(arguments, stream);
      break;
    case KvElement::kInt4: launch<KvElement::kInt4>(arguments, stream); break;
  }
  return launch_status("norm_rope_cache");
}

}  // namespace liquidgemm::cuda
