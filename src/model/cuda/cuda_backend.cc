// A step on the GPU: its numbers to the device, the transformer's operations (cuda_operations.cc)
// as launches on one stream or as a recorded graph, and the results back.

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "model/cuda/cuda_backend_impl.h"
#include "model/transformer.h"
#include "ops/cpu/ops.h"

namespace liquidgemm {
CudaBackend::~CudaBackend() {
  if (stream_.get() != nullptr) static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

void CudaBackend::launched(const Status& status) {
  if (failure_.ok() && !status.ok()) failure_ = status;
}

void CudaBackend::wait() {
  launched(cuda::cuda_status(cudaStreamSynchronize(stream_.get()), "a step"));
}

bool CudaBackend::mark(std::size_t index) {
  while (marks_.size() <= index) {
    launched(cuda::cuda_status(cudaSetDevice(device_.index), "cudaSetDevice"));
    auto event = cuda::make_event();
    launched(event.status());
    if (!event.ok()) return true;
    marks_.push_back(std::move(*event));
  }
  launched(cuda::cuda_status(cudaEventRecord(marks_[index].get(), stream_.get()), "a time mark"));
  return true;
}

double CudaBackend::seconds_between(std::size_t first, std::size_t last) const {
  float milliseconds = 0.0f;
  if (last >= marks_.size() ||
      cudaEventElapsedTime(&milliseconds, marks_[first].get(), marks_[last].get()) != cudaSuccess) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return 1e-3 * static_cast<double>(milliseconds);
}

// ---- The step's numbers ------------------------------------------------------------------------

void CudaBackend::fill(const StepInput& input) {
  const StepBuffers::Fields& to = step_.host();
  std::copy(input.tokens.begin(), input.tokens.end(), to.tokens);
  std::copy(input.logits_rows.begin(), input.logits_rows.end(), to.logits_rows);
  for (std::size_t s = 0; s < input.sequences.size(); ++s) {
    const SequenceRows& sequence = input.sequences[s];
    for (std::int32_t i = 0; i < sequence.rows; ++i) {
      const std::int32_t position = sequence.context + i;
      to.positions[sequence.first_row + i] = position;
      to.row_pages[sequence.first_row + i] =
          sequence.pages[static_cast<std::size_t>(position / kPageTokens)];
    }
    const std::int64_t length = std::int64_t{sequence.context} + sequence.rows;
    std::copy_n(sequence.pages.begin(), pages_for(length),
                to.block_tables + static_cast<std::int64_t>(s) * step_.sizes().table_pages);
    to.lengths[s] = static_cast<std::int32_t>(length);
    to.slot_rows[s] = sequence.first_row;
  }
  // Rows that fill a bucket up are stored nowhere.
  for (auto row = static_cast<std::int64_t>(input.tokens.size()); row < rows_; ++row) {
    to.tokens[row] = 0;
    to.positions[row] = 0;
    to.row_pages[row] = -1;
  }
  for (auto i = static_cast<std::int64_t>(input.logits_rows.size()); i < logits_rows_; ++i) {
    to.logits_rows[i] = static_cast<std::int32_t>(i);
  }
}

// Sequences with one row go to the decode kernel, those with more to the other one, whose bits are
// the same; so do sequences whose splits find no more room in the list.
void CudaBackend::fill_attention(const StepInput& input) {
  const StepBuffers::Fields& to = step_.host();
  const std::int32_t most = cuda::prefill_tile_tokens(
      static_cast<int>(owned_graph_.config.heads), static_cast<int>(owned_graph_.config.kv_heads));
  units_ = 0;
  tiles_ = 0;
  decode_sequences_.clear();
  std::fill_n(to.row_splits, rows_, cuda::RowSplits{});
  for (std::size_t s = 0; s < input.sequences.size(); ++s) {
    const SequenceRows& sequence = input.sequences[s];
    const auto slot = static_cast<std::int32_t>(s);
    const std::int64_t splits = cuda::attention_splits(std::int64_t{sequence.context} + 1);
    if (sequence.rows == 1 && units_ + splits <= step_.sizes().units) {
      decode_sequences_.push_back({slot, sequence.first_row, sequence.context + 1});
      units_ += splits;
      continue;
    }
    for (std::int32_t first = 0; first < sequence.rows; first += most) {
      to.tiles[tiles_++] = {.slot = slot,
                            .first_row = sequence.first_row + first,
                            .rows = std::min(most, sequence.rows - first),
                            .first_position = sequence.context + first};
    }
  }
  const int teams = cuda::decode_teams(shape_, static_cast<int>(owned_graph_.config.heads),
                                       step_sequences(), device_.multiprocessors);
  *to.unit_count =
      cuda::list_units(decode_sequences_, shape_.kv_heads, teams, to.units, to.row_splits);
  // The longest first, so that none is left alone at the end.
  std::stable_sort(to.tiles, to.tiles + tiles_, [](const auto& a, const auto& b) {
    return a.first_position + a.rows > b.first_position + b.rows;
  });
}

void CudaBackend::begin(const StepInput& input) {
  if (recording_) return;
  input_ = &input;
  failure_ = ok_status();
  // Whichever thread runs the step.
  launched(cuda::cuda_status(cudaSetDevice(device_.index), "cudaSetDevice"));
  sampled_.clear();
  scores_.clear();
  rows_ = std::max(rows_, static_cast<std::int64_t>(input.tokens.size()));
  logits_rows_ = std::max(logits_rows_, static_cast<std::int64_t>(input.logits_rows.size()));
  launched(reserve_workspace(rows_, logits_rows_));
  fill(input);
  fill_attention(input);
  launched(step_.upload(static_cast<std::int64_t>(input.sequences.size()), stream_.get()));
  launched(samples_.upload(input, stream_.get()));
  if (samples_.moved()) graphs_.clear();
}

Status CudaBackend::finish() {
  rows_ = 0;
  logits_rows_ = 0;
  wait();
  LIQUIDGEMM_RETURN_IF_ERROR(failure_);
  samples_.take(*input_, sampled_, scores_);
  return ok_status();
}

std::span<const float> CudaBackend::logits(std::int64_t row) const {
  const auto vocab = static_cast<std::size_t>(owned_graph_.config.vocab_size);
  float* to = host_logits_.get() + static_cast<std::size_t>(row) * vocab;
  const cudaError_t copied = cudaMemcpy(to, buffers_.logits + row * head_->width(),
                                        vocab * sizeof(float), cudaMemcpyDeviceToHost);
  if (copied != cudaSuccess) std::fill_n(to, vocab, std::numeric_limits<float>::quiet_NaN());
  return {to, vocab};
}

Status CudaBackend::reserve_workspace(CudaLinear& linear, std::int64_t m) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(const std::size_t bytes, linear.workspace_bytes(m));
  if (!workspaces_.empty() && bytes <= workspaces_.back().size()) return ok_status();
  if (bytes == 0) return ok_status();
  LIQUIDGEMM_ASSIGN_OR_RETURN(
      cuda::DeviceBuffer larger,
      cuda::DeviceBuffer::allocate(bytes + bytes / 4, "the linear layers' workspace"));
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaMemset(larger.bytes(), 0, larger.size()));
  // cudaMemset of another stream is not waited for by ours.
  LIQUIDGEMM_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize());
  workspaces_.push_back(std::move(larger));
  return ok_status();
}

Status CudaBackend::reserve_workspace(std::int64_t rows, std::int64_t logits_rows) {
  if (reserved_rows_.insert(rows).second) {
    for (LayerWeights& layer : layers_) {
      for (CudaLinear* linear :
           {layer.qkv.get(), layer.output.get(), layer.gate_up.get(), layer.down.get()}) {
        LIQUIDGEMM_RETURN_IF_ERROR(reserve_workspace(*linear, rows));
      }
    }
  }
  if (logits_rows == 0 || !reserved_logits_rows_.insert(logits_rows).second) return ok_status();
  return reserve_workspace(*head_, logits_rows);
}

// ---- Recorded steps ----------------------------------------------------------------------------

bool CudaBackend::is_decode(const StepInput& input) const {
  if (input.logits_rows.size() != input.tokens.size()) return false;
  std::int64_t units = 0;
  for (const SequenceRows& sequence : input.sequences) {
    if (sequence.rows != 1) return false;
    units += cuda::attention_splits(std::int64_t{sequence.context} + 1);
  }
  return units <= step_.sizes().units;
}

std::int64_t CudaBackend::bucket(std::int64_t rows) const {
  const std::int64_t step = rows <= 4 ? 1 : rows <= 8 ? 4 : rows <= 64 ? 8 : rows <= 256 ? 16 : 64;
  return std::min({(rows + step - 1) / step * step, limits_.max_rows, limits_.max_logits_rows});
}

Status CudaBackend::run(const StepInput& input) {
  const auto rows = static_cast<std::int64_t>(input.tokens.size());
  if (!options_.graphs || !is_decode(input) || bucket(rows) < rows) return Backend::run(input);
  rows_ = bucket(rows);
  logits_rows_ = rows_;
  // What runs first loads its kernels; only then is it recorded.
  if (warm_.insert(rows_).second) return Backend::run(input);
  begin(input);
  const std::pair key(rows_, samples_.plain_greedy());
  auto found = graphs_.find(key);
  if (found == graphs_.end() && failure_.ok()) {
    recording_ = true;
    auto graph = cuda::capture(stream_.get(), [&] {
      run_transformer(*this, owned_graph_, input);
      return failure_;
    });
    recording_ = false;
    if (graph.ok()) {
      found = graphs_.emplace(key, std::move(*graph)).first;
    } else {
      launched(graph.status());
    }
  }
  if (failure_.ok()) {
    launched(cuda::cuda_status(cudaGraphLaunch(found->second.get(), stream_.get()),
                               "launch of a decode step"));
    if (!input.scores.empty()) score();
  }
  return finish();
}

namespace {

Result<CudaDevice> open_usable(int index) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(CudaDevice device, open_cuda_device(index));
  CudaGemmDesc smallest;
  smallest.n = 8;
  smallest.k = 32;
  LIQUIDGEMM_RETURN_IF_ERROR(can_implement(smallest, device));
  return device;
}

}  // namespace

Status cuda_usable(int device) { return open_usable(device).status(); }

Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options) {
  LIQUIDGEMM_ASSIGN_OR_RETURN(CudaDevice device, open_usable(options.device));
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(std::move(device), options));
}

}  // namespace liquidgemm
