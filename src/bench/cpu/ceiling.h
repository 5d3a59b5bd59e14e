// The best rate that anything reached on this machine in this run: several probes, or a product.
#pragma once

#include <string>
#include <vector>

namespace liquidgemm::bench::cpu {

class Ceiling {
 public:
  struct Probe {
    std::string name;
    int threads = 0;
    double rate = 0.0;  // the best of its repetitions
  };

  // A repetition of a probe.
  void take(const std::string& name, int threads, double rate);
  // What a product reached. Nothing runs above its ceiling: when a product beats every probe, the
  // probes were not good enough, or the machine was slower when they ran, and the product's own
  // rate is the ceiling from then on.
  void raise(const std::string& product, double rate);

  double rate() const { return rate_; }
  // The probe with its threads, or the product.
  const std::string& source() const { return source_; }
  bool raised() const { return raised_; }
  // Of the best probe, whether a product beat it or not.
  double probed_rate() const { return probed_rate_; }
  const std::vector<Probe>& probes() const { return probes_; }

 private:
  std::vector<Probe> probes_;
  double rate_ = 0.0;
  double probed_rate_ = 0.0;
  std::string source_;
  bool raised_ = false;
};

struct CpuCeilings {
  Ceiling read;        // bytes a second from memory
  Ceiling operations;  // INT8 operations a second
};

// max(bytes over the read bandwidth, operations over their rate): no product is faster.
double floor_seconds(const CpuCeilings& ceilings, double bytes, double operations);

}  // namespace liquidgemm::bench::cpu
