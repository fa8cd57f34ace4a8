#include "kernels/vendor/cudnn_library.h"

#include <array>

#include <dlfcn.h>

namespace longhaul::kernels::vendor {

namespace {

template <class Function>
void load(void* library, const char* name, Function& into) {
  into = reinterpret_cast<Function>(dlsym(library, name));
  if (into == nullptr) throw CudnnMissing(std::string("no cuDNN: the library lacks ") + name);
}

void* open_library() {
  const std::string name = "libcudnn.so." + std::to_string(CUDNN_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw CudnnMissing(std::string("no cuDNN: ") + dlerror());
  return library;
}

CudnnLibrary open_cudnn() {
  void* library = open_library();
  CudnnLibrary found;
  load(library, "cudnnGetVersion", found.version);
  load(library, "cudnnGetErrorString", found.error_string);
  load(library, "cudnnGetLastErrorString", found.last_error_string);
  load(library, "cudnnCreate", found.create);
  load(library, "cudnnDestroy", found.destroy);
  load(library, "cudnnSetStream", found.set_stream);
  load(library, "cudnnBackendCreateDescriptor", found.create_descriptor);
  load(library, "cudnnBackendDestroyDescriptor", found.destroy_descriptor);
  load(library, "cudnnBackendSetAttribute", found.set_attribute);
  load(library, "cudnnBackendGetAttribute", found.get_attribute);
  load(library, "cudnnBackendFinalize", found.finalize);
  load(library, "cudnnBackendExecute", found.execute);
  return found;
}

}  // namespace

const CudnnLibrary& cudnn() {
  static const CudnnLibrary library = open_cudnn();  // never closed: it holds state of the GPU
  return library;
}

void check_cudnn(cudnnStatus_t status, const std::string& doing) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> said{};
  cudnn().last_error_string(said.data(), said.size());
  const std::string message =
      "cuDNN, " + doing + ": " + cudnn().error_string(status) + " (" + said.data() + ")";
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) throw CudnnUnsupported(message);
  throw CudnnError(message);
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type, std::string what)
    : what_(std::move(what)) {
  check_cudnn(cudnn().create_descriptor(type, &raw_), "creating " + what_);
}

Descriptor::~Descriptor() {
  if (raw_ != nullptr) cudnn().destroy_descriptor(raw_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, const std::vector<Descriptor>& others) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& other : others) raw.push_back(other.raw_);
  put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw.size(), raw.data());
}

void Descriptor::finalize() { check_cudnn(cudnn().finalize(raw_), "finalising " + what_); }

std::int64_t Descriptor::integer(cudnnBackendAttributeName_t name) const {
  std::int64_t value = 0;
  std::int64_t found = 0;
  check_cudnn(cudnn().get_attribute(raw_, name, CUDNN_TYPE_INT64, 1, &found, &value),
              "reading attribute " + std::to_string(name) + " of " + what_);
  return value;
}

std::int64_t Descriptor::count(cudnnBackendAttributeName_t name,
                               cudnnBackendAttributeType_t type) const {
  std::int64_t found = 0;
  check_cudnn(cudnn().get_attribute(raw_, name, type, 0, &found, nullptr),
              "counting attribute " + std::to_string(name) + " of " + what_);
  return found;
}

std::int64_t Descriptor::fill(cudnnBackendAttributeName_t name,
                              std::vector<Descriptor>& into) const {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& descriptor : into) raw.push_back(descriptor.raw_);
  std::int64_t found = 0;
  check_cudnn(cudnn().get_attribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                    static_cast<std::int64_t>(raw.size()), &found, raw.data()),
              "reading attribute " + std::to_string(name) + " of " + what_);
  return found;
}

void Descriptor::put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                     std::size_t count, const void* values) {
  check_cudnn(cudnn().set_attribute(raw_, name, type, static_cast<std::int64_t>(count), values),
              "setting attribute " + std::to_string(name) + " of " + what_);
}

}  // namespace longhaul::kernels::vendor
