#include "gemm/cuda/cublaslt.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>

#include "base/status_macros.h"
#include "gemm/cuda/handles.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace liquidgemm::cuda {
namespace {

// The calls that are used, with the types of the toolkit's header; the library itself is not
// linked.
struct Api {
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtGetVersion) get_version;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) algorithm_get;
  decltype(&::cublasLtMatmulAlgoCheck) algorithm_check;
  decltype(&::cublasLtMatmul) matmul;
};

Status check(cublasStatus_t code, const char* call) {
  if (code == CUBLAS_STATUS_SUCCESS) return ok_status();
  std::string message = std::string("cuBLASLt: ") + call + " failed with status " +
                        std::to_string(static_cast<int>(code));
  if (code == CUBLAS_STATUS_NOT_SUPPORTED || code == CUBLAS_STATUS_INVALID_VALUE ||
      code == CUBLAS_STATUS_ARCH_MISMATCH) {
    return unsupported(std::move(message));
  }
  return internal_error(std::move(message));
}

template <typename Function>
bool find(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function == nullptr) missing = name;
  return function != nullptr;
}

Status find_all(void* library, Api& api, const std::string& path) {
  std::string missing;
  const bool found =
      find(library, "cublasLtCreate", api.create, missing) &&
      find(library, "cublasLtDestroy", api.destroy, missing) &&
      find(library, "cublasLtGetVersion", api.get_version, missing) &&
      find(library, "cublasLtMatmulDescCreate", api.desc_create, missing) &&
      find(library, "cublasLtMatmulDescDestroy", api.desc_destroy, missing) &&
      find(library, "cublasLtMatmulDescSetAttribute", api.desc_set, missing) &&
      find(library, "cublasLtMatrixLayoutCreate", api.layout_create, missing) &&
      find(library, "cublasLtMatrixLayoutDestroy", api.layout_destroy, missing) &&
      find(library, "cublasLtMatmulPreferenceCreate", api.preference_create, missing) &&
      find(library, "cublasLtMatmulPreferenceDestroy", api.preference_destroy, missing) &&
      find(library, "cublasLtMatmulPreferenceSetAttribute", api.preference_set, missing) &&
      find(library, "cublasLtMatmulAlgoGetHeuristic", api.get_heuristic, missing) &&
      find(library, "cublasLtMatmulAlgoConfigGetAttribute", api.algorithm_get, missing) &&
      find(library, "cublasLtMatmulAlgoCheck", api.algorithm_check, missing) &&
      find(library, "cublasLtMatmul", api.matmul, missing);
  if (found) return ok_status();
  return unsupported(path + ": has no " + missing + "; cuBLASLt 12 or 13 is needed");
}

struct TypeOf {
  cudaDataType_t operand;
  cudaDataType_t output;
  cublasComputeType_t compute;
  cudaDataType_t scale;
};

TypeOf type_of(CublasType type) {
  switch (type) {
    case CublasType::kF16: return {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F, CUDA_R_32F};
    case CublasType::kF16F32: return {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUDA_R_32F};
    case CublasType::kE4m3: return {CUDA_R_8F_E4M3, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUDA_R_32F};
    case CublasType::kInt8: break;
  }
  return {CUDA_R_8I, CUDA_R_32I, CUBLAS_COMPUTE_32I, CUDA_R_32I};
}

class Product final : public CublasProduct {
 public:
  Product(const Api& api, cublasLtHandle_t handle, void* workspace)
      : api_(api), handle_(handle), workspace_(workspace) {}

  ~Product() override {
    if (preference_ != nullptr) api_.preference_destroy(preference_);
    for (const cublasLtMatrixLayout_t layout : {w_, x_, y_}) {
      if (layout != nullptr) api_.layout_destroy(layout);
    }
    if (desc_ != nullptr) api_.desc_destroy(desc_);
  }

  // In cuBLASLt's column-major terms: w is [k, n], transposed; x is [k, m]; y is [n, m].
  Status prepare(const CublasShape& shape) {
    shape_ = shape;
    const TypeOf type = type_of(shape.type);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    LIQUIDGEMM_RETURN_IF_ERROR(
        check(api_.desc_create(&desc_, type.compute, type.scale), "cublasLtMatmulDescCreate"));
    LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_TRANSA, transposed));
    if (shape.type == CublasType::kE4m3) {
      LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1}));
    }
    if (shape.bias) {
      LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
      LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type.output));
      // The heuristic wants one; each launch brings its own.
      LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, workspace_));
    }
    LIQUIDGEMM_RETURN_IF_ERROR(layout(w_, type.operand, shape.k, shape.n));
    LIQUIDGEMM_RETURN_IF_ERROR(layout(x_, type.operand, shape.k, shape.m));
    return layout(y_, type.output, shape.n, shape.m);
  }

  Status ask(int candidates) {
    LIQUIDGEMM_RETURN_IF_ERROR(
        check(api_.preference_create(&preference_), "cublasLtMatmulPreferenceCreate"));
    const std::size_t workspace = CublasLt::kWorkspaceBytes;
    LIQUIDGEMM_RETURN_IF_ERROR(
        check(api_.preference_set(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                  sizeof workspace),
              "cublasLtMatmulPreferenceSetAttribute"));
    results_.resize(static_cast<std::size_t>(candidates));
    int found = 0;
    const cublasStatus_t code = api_.get_heuristic(handle_, desc_, w_, x_, y_, y_, preference_,
                                                   candidates, results_.data(), &found);
    if (code != CUBLAS_STATUS_SUCCESS) found = 0;  // a shape that the library does not take
    results_.resize(static_cast<std::size_t>(found));
    std::erase_if(results_, [](const auto& result) {
      return result.state != CUBLAS_STATUS_SUCCESS ||
             result.workspaceSize > CublasLt::kWorkspaceBytes;
    });
    return ok_status();
  }

  // The algorithm of another product where it takes this one.
  void take(const Product& other, int candidate) {
    cublasLtMatmulHeuristicResult_t result{};
    result.algo = other.results_[static_cast<std::size_t>(candidate)].algo;
    const cublasLtMatmulAlgo_t algorithm = result.algo;
    const cublasStatus_t code =
        api_.algorithm_check(handle_, desc_, w_, x_, y_, y_, &algorithm, &result);
    if (code != CUBLAS_STATUS_SUCCESS || result.workspaceSize > CublasLt::kWorkspaceBytes) return;
    result.algo = algorithm;
    results_.push_back(result);
  }

  const CublasShape& shape() const { return shape_; }
  int candidates() const override { return static_cast<int>(results_.size()); }

  std::string describe(int candidate) const override {
    const auto attribute = [&](cublasLtMatmulAlgoConfigAttributes_t name) {
      std::int32_t value = -1;
      std::size_t written = 0;
      api_.algorithm_get(&results_[candidate].algo, name, &value, sizeof value, &written);
      return std::to_string(value);
    };
    return "algorithm " + attribute(CUBLASLT_ALGO_CONFIG_ID) + ", tile " +
           attribute(CUBLASLT_ALGO_CONFIG_TILE_ID) + ", stages " +
           attribute(CUBLASLT_ALGO_CONFIG_STAGES_ID) + ", split-k " +
           attribute(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) + ", candidate " +
           std::to_string(candidate + 1) + " of " + std::to_string(candidates());
  }

  Status launch(int candidate, const CublasOperands& operands, cudaStream_t stream) const override {
    static constexpr float kOne = 1.0f;
    static constexpr float kZero = 0.0f;
    static constexpr std::int32_t kIntegerOne = 1;
    static constexpr std::int32_t kIntegerZero = 0;
    const bool integer = shape_.type == CublasType::kInt8;
    const void* alpha = integer ? static_cast<const void*>(&kIntegerOne) : &kOne;
    const void* beta = integer ? static_cast<const void*>(&kIntegerZero) : &kZero;
    // Layers of one shape share the product, but not the bias.
    if (shape_.bias) {
      LIQUIDGEMM_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias));
    }
    return check(
        api_.matmul(handle_, desc_, alpha, operands.w, w_, operands.x, x_, beta, operands.y, y_,
                    operands.y, y_, &results_[static_cast<std::size_t>(candidate)].algo, workspace_,
                    CublasLt::kWorkspaceBytes, stream),
        "cublasLtMatmul");
  }

 private:
  template <typename Value>
  Status set(cublasLtMatmulDescAttributes_t name, const Value& value) const {
    return check(api_.desc_set(desc_, name, &value, sizeof value),
                 "cublasLtMatmulDescSetAttribute");
  }
  Status layout(cublasLtMatrixLayout_t& layout, cudaDataType_t type, std::int64_t rows,
                std::int64_t columns) {
    return check(api_.layout_create(&layout, type, static_cast<std::uint64_t>(rows),
                                    static_cast<std::uint64_t>(columns), rows),
                 "cublasLtMatrixLayoutCreate");
  }

  const Api& api_;
  cublasLtHandle_t handle_;
  void* workspace_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::vector<cublasLtMatmulHeuristicResult_t> results_;
  CublasShape shape_;
};

class Library final : public CublasLt {
 public:
  ~Library() override {
    if (handle_ != nullptr) api_.destroy(handle_);
    // The library stays loaded: unloading one that holds GPU modules gains nothing.
  }

  Status start(void* library, const std::string& path) {
    path_ = path;
    LIQUIDGEMM_RETURN_IF_ERROR(find_all(library, api_, path));
    // 120103 is 12.1.3, as is 13010x 13.1.x.
    if (api_.get_version() < 120000) {
      return unsupported(path + ": is cuBLASLt " + version() + "; 12 or 13 is needed");
    }
    LIQUIDGEMM_RETURN_IF_ERROR(check(api_.create(&handle_), "cublasLtCreate"));
    LIQUIDGEMM_ASSIGN_OR_RETURN(workspace_,
                                DeviceBuffer::allocate(kWorkspaceBytes, "cuBLASLt's workspace"));
    return ok_status();
  }

  std::string version() const override {
    const std::size_t number = api_.get_version();
    return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100) + " (" + path_ + ")";
  }

  Result<std::unique_ptr<CublasProduct>> make(const CublasShape& shape,
                                              int candidates) const override {
    auto product = std::make_unique<Product>(api_, handle_, workspace_.as<void>());
    LIQUIDGEMM_RETURN_IF_ERROR(product->prepare(shape));
    LIQUIDGEMM_RETURN_IF_ERROR(product->ask(candidates));
    return std::unique_ptr<CublasProduct>(std::move(product));
  }

  Result<std::unique_ptr<CublasProduct>> make_like(const CublasProduct& other, int candidate,
                                                   std::int64_t m) const override {
    const auto& model = static_cast<const Product&>(other);
    CublasShape shape = model.shape();
    shape.m = m;
    auto product = std::make_unique<Product>(api_, handle_, workspace_.as<void>());
    LIQUIDGEMM_RETURN_IF_ERROR(product->prepare(shape));
    product->take(model, candidate);
    return std::unique_ptr<CublasProduct>(std::move(product));
  }

 private:
  Api api_{};
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer workspace_;
  std::string path_;
};

constexpr std::array<const char*, 3> kNames = {"libcublasLt.so.13", "libcublasLt.so.12",
                                               "libcublasLt.so"};

// The first library of `paths` that opens; its path is written over `path`.
void* open_first(const std::vector<std::string>& paths, std::string& path, std::string& reasons) {
  for (const std::string& candidate : paths) {
    if (void* library = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      path = candidate;
      return library;
    }
    const char* reason = ::dlerror();
    reasons += std::string("\n  ") + (reason != nullptr ? reason : candidate.c_str());
  }
  return nullptr;
}

std::vector<std::string> in_folder(const std::string& folder) {
  std::vector<std::string> paths;
  for (const char* name : kNames) paths.push_back(folder + "/" + name);
  return paths;
}

}  // namespace

Result<std::unique_ptr<CublasLt>> CublasLt::open(const std::string& path) {
  const char* named = std::getenv("LIQUIDGEMM_CUBLAS_LIB");
  const std::string place = path.empty() && named != nullptr ? named : path;
  std::vector<std::string> paths;
  struct stat entry {};
  if (place.empty()) {
    paths.assign(kNames.begin(), kNames.end());
    const char* home = std::getenv("CUDA_HOME");
    for (const std::string& folder : {std::string(home != nullptr ? home : "/usr/local/cuda"),
                                      std::string("/usr/local/cuda")}) {
      for (std::string& file : in_folder(folder + "/lib64")) paths.push_back(std::move(file));
    }
  } else if (::stat(place.c_str(), &entry) == 0 && S_ISDIR(entry.st_mode)) {
    paths = in_folder(place);
  } else {
    paths = {place};
  }
  std::string opened;
  std::string reasons;
  void* handle = open_first(paths, opened, reasons);
  if (handle == nullptr) {
    return unsupported(
        "cuBLASLt cannot be opened; name its folder in LIQUIDGEMM_CUBLAS_LIB (the CUDA toolkit's "
        "lib64, or nvidia/cublas/lib or nvidia/cu13/lib of a Python environment):" +
        reasons);
  }
  auto library = std::make_unique<Library>();
  LIQUIDGEMM_RETURN_IF_ERROR(library->start(handle, opened));
  return std::unique_ptr<CublasLt>(std::move(library));
}

}  // namespace liquidgemm::cuda

#else

namespace liquidgemm::cuda {

Result<std::unique_ptr<CublasLt>> CublasLt::open(const std::string&) {
  return unsupported(
      "this build knows no cuBLASLt: the CUDA toolkit it was built with has no cublasLt.h");
}

}  // namespace liquidgemm::cuda

#endif
