#include "ops/cuda/attention.h"
namespace liquidgemm::cuda {
int prefill_tile_tokens(int heads, int kv_heads) { return 128 / (heads / kv_heads); }
Status prefill_attention(const PrefillAttention&, CudaStream) { return unsupported("no prefill yet"); }
}
