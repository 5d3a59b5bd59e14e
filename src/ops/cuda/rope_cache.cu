// Norm over heads, rotation and the write to the KV cache: 8 lanes a head of 64 dimensions, 16 a
// head of 128.
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
#include "gemm/cuda/quantize_row.cuh"
#include "gemm/cuda/row_checks.h"
#include "gemm/numerics.h"
#include "ops/cuda/rows.h"
#include "ops/kv_static.h"

namespace liquidgemm::cuda {
namespace {

constexpr int kThreads = 128;

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

// The lanes that share a head. Those of other heads in the warp may be elsewhere.
template <int kLanes>
struct HeadLanes {
  int lane;
  unsigned mask;

  __device__ HeadLanes() {
    const auto in_warp = static_cast<int>(threadIdx.x % 32);
    lane = in_warp % kLanes;
    mask = ((1u << kLanes) - 1u) << (in_warp - lane);
  }
  template <typename T>
  __device__ T exchange(T value, int apart) const {
    return __shfl_xor_sync(mask, value, apart);
  }
  // `combine`(a, b) == `combine`(b, a), so that every lane gets the same.
  template <typename T, typename Combine>
  __device__ T fold(T value, const Combine& combine) const {
#pragma unroll
    for (int apart = kLanes / 2; apart > 0; apart /= 2) {
      value = combine(value, exchange(value, apart));
    }
    return value;
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

// The sum of squares of `head` in the contract's tree. The 1024 lanes of the tree beyond head_dim
// are 0, and sums of squares are never -0: the tree begins with halves of kWidth / 2.
template <int kWidth>
__device__ float sum_of_squares(const float* head, int head_dim, const float4& first,
                                const float4& second, const HeadLanes<kWidth / 8>& lanes) {
  constexpr int kLanes = kWidth / 8;
  float4 low = first;
  float4 high = second;
  if (head_dim != kWidth) {
    // The halves of the tree are not those of the rotation.
    const int d = 4 * lanes.lane;
    low = high = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (d < head_dim) low = load_four(head + d);
    if (d + kWidth / 2 < head_dim) high = load_four(head + d + kWidth / 2);
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

// Eight values of one lane, and the dimensions at which its two fours begin.
struct LaneValues {
  float4 first, second;
  int first_d, second_d;
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

// A word of int4 has its lower four dimensions in bytes 0 and 2, its upper four in bytes 1 and 3:
// a lane that has one of the two writes bytes.
static_assert(int4_nibble(0) == 0 && int4_nibble(2) == 1 && int4_nibble(1) == 4 &&
              int4_nibble(3) == 5 && int4_nibble(4) == 2 && int4_nibble(6) == 3 &&
              int4_nibble(5) == 6 && int4_nibble(7) == 7);
__device__ void store_int4(std::uint8_t* word, int d, const float4& four, float step,
                           float middle) {
  const auto nibble = [&](float x) { return numerics::kv4_code(x, step, middle) + 8; };
  std::uint8_t* bytes = word + d / 4 % 2;
  bytes[0] = static_cast<std::uint8_t>(nibble(four.x) | nibble(four.z) << 4);
  bytes[2] = static_cast<std::uint8_t>(nibble(four.y) | nibble(four.w) << 4);
}

// `word(d)`: where the word of dimension d lies; `parameters`: those of the token; `reciprocal`:
// [head_dim], with static scales.
template <KvElement kElement, int kLanes, typename Word>
__device__ void store_head(const LaneValues& values, const HeadLanes<kLanes>& lanes,
                           const Word& word, void* parameters, const float* reciprocal) {
  std::uint8_t* first = word(values.first_d);
  std::uint8_t* second = word(values.second_d);
  if constexpr (kv_is_float(kElement)) {
    *reinterpret_cast<uint2*>(first) = rounded_word<kElement>(values.first);
    *reinterpret_cast<uint2*>(second) = rounded_word<kElement>(values.second);
  } else if constexpr (kElement == KvElement::kInt8Static) {
    // Padding is code 0.
    const float4 none = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const auto codes = [&](const float4& four, int d) {
      return static_codes(four, values.real ? load_four(reciprocal + d) : none);
    };
    *reinterpret_cast<std::uint32_t*>(first) = codes(values.first, values.first_d);
    *reinterpret_cast<std::uint32_t*>(second) = codes(values.second, values.second_d);
  } else {
    const auto larger = [](std::uint32_t a, std::uint32_t b) { return max(a, b); };
    const std::uint32_t largest =
        lanes.fold(reduce_values<std::uint32_t>(values, magnitude_bits, larger), larger);
    const bool finite = largest < kInfinityBits;
    if constexpr (kElement == KvElement::kInt8) {
      const numerics::RowScale scale = numerics::row_scale(__uint_as_float(largest), finite);
      *reinterpret_cast<std::uint32_t*>(first) = int8_codes(values.first, scale.reciprocal);
      *reinterpret_cast<std::uint32_t*>(second) = int8_codes(values.second, scale.reciprocal);
      if (lanes.lane == 0) *static_cast<float*>(parameters) = scale.scale;
    } else {
      // Padding is no value of the row.
      const float infinity = __uint_as_float(kInfinityBits);
      const auto same = [](float x) { return x; };
      const auto lower = [](float a, float b) { return fminf(a, b); };
      const auto higher = [](float a, float b) { return fmaxf(a, b); };
      const float low =
          lanes.fold(values.real ? reduce_values<float>(values, same, lower) : infinity, lower);
      const float high =
          lanes.fold(values.real ? reduce_values<float>(values, same, higher) : -infinity, higher);
      const __half stored_step = __float2half_rn(numerics::kv4_step(low, high, finite));
      const float step = __half2float(stored_step);
      const __half stored_middle = __float2half_rn(numerics::kv4_middle(low, step));
      const float middle = __half2float(stored_middle);
      // Padding is code 0, as a constant row's values are.
      const float own_step = values.real ? step : 0.0f;
      store_int4(first, values.first_d, values.first, own_step, middle);
      store_int4(second, values.second_d, values.second, own_step, middle);
      if (lanes.lane == 0) {
        *static_cast<std::uint32_t*>(parameters) =
            int4_parameters(__half_as_ushort(stored_step), __half_as_ushort(stored_middle));
      }
    }
  }
}

// ---- The kernel --------------------------------------------------------------------------------

template <KvElement kElement, int kWidth>
__global__ __launch_bounds__(kThreads) void norm_rope_cache_kernel(
    NormRopeCacheArguments arguments) {
  ptx::launch_dependents();
  constexpr int kLanes = kWidth / 8;
  const HeadLanes<kLanes> lanes;
  const std::int64_t row = blockIdx.x;
  const auto head = static_cast<int>(blockIdx.y * (kThreads / kLanes) + threadIdx.x / kLanes);
  const int keys_at = arguments.heads;
  const int values_at = keys_at + arguments.shape.kv_heads;
  if (head >= values_at + arguments.shape.kv_heads) return;

  const int head_dim = arguments.head_dim;
  const int half = head_dim / 2;
  const float* x = arguments.qkv + row * arguments.ld_qkv + head * head_dim;
  LaneValues values;
  values.first = values.second = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  values.first_d = 4 * lanes.lane;
  values.second_d = half + 4 * lanes.lane;
  values.real = values.first_d < half;
  if (!values.real) {
    values.first_d = head_dim + 2 * (values.first_d - half);
    values.second_d = values.first_d + 4;
  }
  // What the kernel in front does not write is read before it has ended.
  const std::int64_t position = arguments.positions[row];
  const std::int64_t page = arguments.pages_of_rows[row];
  float4 cosines{}, sines{};
  if (values.real && head < values_at) {
    const std::int64_t angles = position * half + values.first_d;
    cosines = load_four(arguments.cos + angles);
    sines = load_four(arguments.sin + angles);
  }
  ptx::wait_for_previous_kernel();
  if (values.real) {
    values.first = load_four(x + values.first_d);
    values.second = load_four(x + values.second_d);
  }
  if (head < values_at) {
    const float* weight = head < keys_at ? arguments.q_norm : arguments.k_norm;
    if (weight != nullptr) {
      const float squares = sum_of_squares<kWidth>(x, head_dim, values.first, values.second, lanes);
      const float reciprocal =
          numerics::rms_reciprocal(squares, static_cast<float>(head_dim), arguments.epsilon);
      if (values.real) {
        apply_norm(values.first, reciprocal, load_four(weight + values.first_d));
        apply_norm(values.second, reciprocal, load_four(weight + values.second_d));
      }
    }
    if (values.real) rotate(values.first, values.second, cosines, sines);
  }

  if (head < keys_at) {
    const std::int64_t q_head = row * arguments.heads + head;
    if constexpr (kElement == KvElement::kInt8Static) {
      const int kv_head = head / (arguments.heads / arguments.shape.kv_heads);
      const float* scale = arguments.k_scale + kv_head * head_dim;
      if (values.real) {
        multiply(values.first, load_four(scale + values.first_d));
        multiply(values.second, load_four(scale + values.second_d));
      }
    }
    std::uint16_t* q = static_cast<std::uint16_t*>(arguments.q) + q_head * kWidth;
    const uint2 first = rounded_word<kElement>(values.first);
    const uint2 second = rounded_word<kElement>(values.second);
    *reinterpret_cast<uint2*>(q + values.first_d) = first;
    *reinterpret_cast<uint2*>(q + values.second_d) = second;
    return;
  }

  if (page < 0) return;
  const auto token = static_cast<int>(position % kKvPageTokens);
  const bool is_key = head < values_at;
  const int kv_head = head - (is_key ? keys_at : values_at);
  std::uint8_t* head_page = arguments.pages + page * kv_page_bytes(arguments.shape) +
                            kv_head_page_offset(arguments.shape, arguments.layer, kv_head);
  const auto word = [&](int d) {
    return head_page + (is_key ? key_word_offset(kElement, kWidth, token, d)
                               : value_word_offset(kElement, kWidth, token, d));
  };
  store_head<kElement>(
      values, lanes, word,
      head_page + (is_key ? key_parameter_offset(kElement, kWidth, token)
                          : value_parameter_offset(kElement, kWidth, token)),
      (is_key ? arguments.k_reciprocal : arguments.v_reciprocal) + kv_head * head_dim);
}

template <KvElement kElement>
void launch(const NormRopeCacheArguments& arguments, CudaStream stream) {
  const int all_heads = arguments.heads + 2 * arguments.shape.kv_heads;
  const auto rows = static_cast<unsigned>(arguments.rows);
  const auto run = [&](auto width) {
    constexpr int kHeads = kThreads / (width.value / 8);
    const dim3 grid(rows, blocks_for(all_heads, kHeads));
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
