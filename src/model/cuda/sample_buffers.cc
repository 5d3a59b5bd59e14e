#include "model/cuda/sample_buffers.h"

#include <algorithm>

#include "base/status_macros.h"
#include "model/cuda/pieces.h"

namespace liquidgemm {
SampleBuffers::Fields SampleBuffers::lay_out(std::int64_t most, void* base, std::size_t& used) {
  Pieces pieces(base);
  Fields fields;
  pieces.take(fields.samples, most);
  pieces.take(fields.scores, most);
  pieces.take(fields.count, 1);
  pieces.take(fields.sampled, most);
  pieces.take(fields.scored, most);
  used = pieces.used();
  return fields;
}

SampleBuffers::Lists SampleBuffers::lay_out(const ListSizes& sizes, void* base, std::size_t& used) {
  Pieces pieces(base);
  Lists lists;
  pieces.take(lists.biases, static_cast<std::int64_t>(sizes.biases));
  pieces.take(lists.counts, static_cast<std::int64_t>(sizes.counts));
  pieces.take(lists.masks, static_cast<std::int64_t>(sizes.masks));
  used = pieces.used();
  return lists;
}

std::size_t SampleBuffers::bytes_of(std::int64_t most) {
  std::size_t used = 0;
  static_cast<void>(lay_out(most, nullptr, used));
  return used + sample_workspace_bytes(static_cast<std::int32_t>(most));
}

Status SampleBuffers::allocate(std::int64_t most, std::int64_t vocabulary) {
  most_ = most;
  vocabulary_ = static_cast<std::int32_t>(vocabulary);
  LIQUIDGEMM_RETURN_IF_ERROR(prepare_sampling());
  std::size_t bytes = 0;
  static_cast<void>(lay_out(most, nullptr, bytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(memory_, cuda::DeviceBuffer::allocate(bytes, "sampling buffers"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(pinned_, cuda::allocate_pinned(bytes));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(memory_.bytes(), 0, bytes));
  host_ = lay_out(most, pinned_.get(), bytes);
  device_ = lay_out(most, memory_.bytes(), bytes);
  const std::size_t workspace = sample_workspace_bytes(static_cast<std::int32_t>(most));
  LIQUIDGEMM_ASSIGN_OR_RETURN(workspace_,
                              cuda::DeviceBuffer::allocate(workspace, "sampling workspace"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(workspace_.bytes(), 0, workspace_.size()));
  // A little of each to begin with, so that no pointer is null.
  return grow({.biases = 64, .counts = 64, .masks = 64});
}

Status SampleBuffers::grow(const ListSizes& wanted) {
  const auto room = [](std::size_t has, std::size_t wants) {
    return wants <= has ? has : std::max(wants, 2 * has);
  };
  const ListSizes sizes = {.biases = room(sizes_.biases, wanted.biases),
                           .counts = room(sizes_.counts, wanted.counts),
                           .masks = room(sizes_.masks, wanted.masks)};
  std::size_t bytes = 0;
  static_cast<void>(lay_out(sizes, nullptr, bytes));
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      list_memory_, cuda::DeviceBuffer::allocate(bytes, "biases, penalties and masks of a step"));
  LIQUIDGEMM_ASSIGN_OR_RETURN(pinned_lists_, cuda::allocate_pinned(bytes));
  host_lists_ = lay_out(sizes, pinned_lists_.get(), bytes);
  device_lists_ = lay_out(sizes, list_memory_.bytes(), bytes);
  sizes_ = sizes;
  list_bytes_ = bytes;
  moved_ = true;
  return ok_status();
}

Status SampleBuffers::upload(const StepInput& input, cudaStream_t stream) {
  moved_ = false;
  plain_greedy_ = true;
  ListSizes wanted;
  for (const SampleRow& row : input.samples) {
    wanted.biases += row.bias.size();
    wanted.counts += row.counts.size();
    wanted.masks += row.mask.size();
  }
  if (wanted.biases > sizes_.biases || wanted.counts > sizes_.counts ||
      wanted.masks > sizes_.masks) {
    LIQUIDGEMM_RETURN_IF_ERROR(grow(wanted));
  }
  ListSizes at;
  for (std::size_t i = 0; i < input.samples.size(); ++i) {
    const SampleRow& row = input.samples[i];
    const SamplingParams& params = row.params;
    const auto counts = has_penalties(params) ? row.counts : std::span<const TokenCount>();
    plain_greedy_ = plain_greedy_ && params.temperature == 0.0f && row.bias.empty() &&
                    row.mask.empty() && counts.empty();
    host_.samples[i] = {.logits_row = row.logits_row,
                        .temperature = params.temperature,
                        .top_k = params.top_k,
                        .top_p = params.top_p,
                        .min_p = params.min_p,
                        .repetition_penalty = params.repetition_penalty,
                        .presence_penalty = params.presence_penalty,
                        .frequency_penalty = params.frequency_penalty,
                        .seed = params.seed,
                        .position = row.position,
                        .bias_begin = static_cast<std::int32_t>(at.biases),
                        .bias_count = static_cast<std::int32_t>(row.bias.size()),
                        .counts_begin = static_cast<std::int32_t>(at.counts),
                        .counts_count = static_cast<std::int32_t>(counts.size()),
                        .mask_begin = static_cast<std::int64_t>(at.masks),
                        .mask_words = static_cast<std::int32_t>(row.mask.size())};
    std::copy(row.bias.begin(), row.bias.end(), host_lists_.biases + at.biases);
    std::copy(counts.begin(), counts.end(), host_lists_.counts + at.counts);
    std::copy(row.mask.begin(), row.mask.end(), host_lists_.masks + at.masks);
    at.biases += row.bias.size();
    at.counts += counts.size();
    at.masks += row.mask.size();
  }
  for (std::size_t i = 0; i < input.scores.size(); ++i) {
    const ScoreRow& row = input.scores[i];
    host_.scores[i] = {
        .logits_row = row.logits_row, .token = row.token, .sample = row.sample, .top = row.top};
  }
  *host_.count = static_cast<std::int32_t>(input.samples.size());
  score_count_ = static_cast<std::int32_t>(input.scores.size());
  // What is asked for comes before what is answered.
  const auto bytes = static_cast<std::size_t>(reinterpret_cast<char*>(host_.sampled) -
                                              reinterpret_cast<char*>(host_.samples));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(device_.samples, host_.samples, bytes, cudaMemcpyHostToDevice, stream));
  if (at.biases + at.counts + at.masks > 0) {
    LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(list_memory_.bytes(), pinned_lists_.get(),
                                                    list_bytes_, cudaMemcpyHostToDevice, stream));
  }
  return ok_status();
}

Status SampleBuffers::sample(const float* logits, std::int64_t ld, std::int64_t rows,
                             cudaStream_t stream) {
  const auto most = static_cast<std::int32_t>(std::min(rows, most_));
  LIQUIDGEMM_RETURN_IF_ERROR(sample_rows({.logits = logits,
                                          .ld = ld,
                                          .rows = static_cast<std::int32_t>(rows),
                                          .vocabulary = vocabulary_,
                                          .samples = device_.samples,
                                          .count = device_.count,
                                          .max_count = most,
                                          .biases = device_lists_.biases,
                                          .counts = device_lists_.counts,
                                          .masks = device_lists_.masks,
                                          .sampled = device_.sampled,
                                          .workspace = workspace_.bytes(),
                                          .plain_greedy = plain_greedy_},
                                         stream));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(
      host_.sampled, device_.sampled, static_cast<std::size_t>(most) * sizeof(SampledToken),
      cudaMemcpyDeviceToHost, stream));
  return ok_status();
}

Status SampleBuffers::score(const float* logits, std::int64_t ld, std::int64_t rows,
                            cudaStream_t stream) {
  LIQUIDGEMM_RETURN_IF_ERROR(score_rows({.logits = logits,
                                         .ld = ld,
                                         .rows = static_cast<std::int32_t>(rows),
                                         .vocabulary = vocabulary_,
                                         .scores = device_.scores,
                                         .max_count = score_count_,
                                         .sampled = device_.sampled,
                                         .samples = static_cast<std::int32_t>(most_),
                                         .out = device_.scored},
                                        stream));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(
      host_.scored, device_.scored, static_cast<std::size_t>(score_count_) * sizeof(CudaRowScore),
      cudaMemcpyDeviceToHost, stream));
  return ok_status();
}

void SampleBuffers::take(const StepInput& input, std::vector<SampledToken>& sampled,
                         std::vector<TokenScore>& scores) const {
  sampled.assign(host_.sampled, host_.sampled + input.samples.size());
  scores.resize(input.scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) token_score(host_.scored[i], scores[i]);
}

}  // namespace liquidgemm
