// How the work of a launch is divided: the segments of a worker.
#pragma once

#include "gemm/cuda/w4a8_parameters.h"

namespace liquidgemm::cuda {

// One piece of work: column blocks [begin, end) of a tile.
struct Segment {
  int tile;
  int begin;
  int end;
};

// The segments of one worker, the same for its producer and its consumers.
//
//   tiles 0 .. stream_tiles - 1      one line of stream_tiles * column_blocks steps, cut into
//                                    `workers` equal ranges (stream-K)
//   tiles stream_tiles ..            whole tiles, worker w takes every workers-th
//
// A range may begin and end inside a tile. The worker with a tile's first column block finishes the
// tile; the others, who have the higher numbers, leave their sums in `partials`. Such a part is
// always the first segment of its worker, so that it is long there when the finisher needs it.
class SegmentIterator {
 public:
  __device__ SegmentIterator(const W4A8Parameters& p, int worker)
      : p_(p),
        at_(stream_begin(p, worker)),
        stop_(stream_begin(p, worker + 1)),
        whole_(p.stream_tiles + worker) {}

  // Where a worker's range of the line begins.
  static __device__ int stream_begin(const W4A8Parameters& p, int worker) {
    return worker * p.stream_share + min(worker, p.stream_extra);
  }

  __device__ bool next(Segment& segment) {
    const int columns = p_.column_blocks;
    if (at_ < stop_) {
      segment.tile = p_.by_column_blocks.divide(at_);
      segment.begin = at_ - segment.tile * columns;
      segment.end = min(columns, segment.begin + stop_ - at_);
      at_ += segment.end - segment.begin;
      return true;
    }
    if (whole_ >= p_.row_tiles * p_.token_tiles) return false;
    segment = {whole_, 0, columns};
    whole_ += p_.workers;
    return true;
  }

 private:
  const W4A8Parameters& p_;
  int at_, stop_;  // on the line
  int whole_;      // the next whole tile
};

// The workers that left sums of a tile whose first segment is `segment`, worker `finisher`'s.
class ContributorIterator {
 public:
  __device__ ContributorIterator(const W4A8Parameters& p, int finisher, const Segment& segment)
      : p_(p),
        other_(finisher),
        open_(segment.end < p.column_blocks),
        tile_end_((segment.tile + 1) * p.column_blocks) {}

  __device__ bool next(int& other) {
    if (!open_) return false;
    other = ++other_;
    open_ = SegmentIterator::stream_begin(p_, other + 1) < tile_end_;
    return true;
  }

 private:
  const W4A8Parameters& p_;
  int other_;
  bool open_;
  int tile_end_;
};

}  // namespace liquidgemm::cuda
