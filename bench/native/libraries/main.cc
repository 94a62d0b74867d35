// y = x wᵀ with the libraries of others. bench_libraries THREADS SHAPE[,SHAPE...] DTYPE[,DTYPE...] prints one JSON object: {rows:
// [{library, shape, dtype, ms}], missing: [{library, reason}]} with median times. Weights are prepacked where the library can. One timed
// run is several products when they are small.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#if defined(LORIKEET_BENCH_ONEDNN)
#include <dnnl.hpp>
#endif

namespace {

struct Shape {
  std::string text;
  long m, n, k;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::stringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

std::vector<float> random(long count) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

/// Products in one timed run: enough for 4 GFLOP, at most 32.
long calls_of(const Shape& shape) {
  const double flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
  return std::clamp(std::lround(4e9 / flops), 1L, 32L);
}

/// The median time of one product.
double median_ms(const Shape& shape, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const long calls = calls_of(shape);
  for (int i = 0; i < 3; ++i) run();
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 10 || Clock::now() - begin < std::chrono::milliseconds(300)) {
    const Clock::time_point start = Clock::now();
    for (long call = 0; call < calls; ++call) run();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count() / static_cast<double>(calls));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

bool first_row = true;
void print_row(const char* library, const Shape& shape, const std::string& dtype, double ms) {
  std::printf("%s\n  {\"library\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"ms\": %.4f}", first_row ? "" : ",", library,
              shape.text.c_str(), dtype.c_str(), ms);
  first_row = false;
}

using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                       int ldb, float beta, float* c, int ldc);

std::string openblas(int threads, const std::vector<Shape>& shapes, const std::vector<std::string>& dtypes) {
  void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return "libopenblas.so.0 cannot be loaded (Debian: libopenblas0-pthread)";
  const auto sgemm = reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm"));
  const auto set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"));
  if (sgemm == nullptr || set_threads == nullptr) return "libopenblas.so.0 has no cblas_sgemm";
  set_threads(threads);
  for (const std::string& dtype : dtypes) {
    if (dtype != "f32") continue;
    for (const Shape& shape : shapes) {
      const auto m = static_cast<int>(shape.m), n = static_cast<int>(shape.n), k = static_cast<int>(shape.k);
      const std::vector<float> x = random(shape.m * shape.k), w = random(shape.n * shape.k);
      std::vector<float> y(static_cast<size_t>(shape.m * shape.n));
      constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
      print_row("OpenBLAS", shape, dtype,
                median_ms(shape, [&] { sgemm(kRowMajor, kPlain, kTransposed, m, n, k, 1, x.data(), k, w.data(), k, 0, y.data(), n); }));
    }
  }
  return {};
}

#if defined(LORIKEET_BENCH_ONEDNN)
/// Weights are reordered once into the layout that the library chooses.
double onednn_ms(dnnl::engine& engine, dnnl::stream& stream, const Shape& shape, dnnl::memory::data_type type) {
  using Memory = dnnl::memory;
  using Tag = Memory::format_tag;
  const Memory::desc x_layout({shape.m, shape.k}, type, Tag::ab), y_layout({shape.m, shape.n}, type, Tag::ab);
  const Memory::desc any_w({shape.k, shape.n}, type, Tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc plan(engine, x_layout, any_w, y_layout);
#else
  const dnnl::matmul::primitive_desc plan(dnnl::matmul::desc(x_layout, any_w, y_layout), engine);
#endif
  std::vector<float> x_values = random(shape.m * shape.k), w_values = random(shape.n * shape.k);
  Memory x_plain({{shape.m, shape.k}, Memory::data_type::f32, Tag::ab}, engine, x_values.data());
  Memory w_plain({{shape.k, shape.n}, Memory::data_type::f32, Tag::ba}, engine, w_values.data());
  Memory x(x_layout, engine), w(plan.weights_desc(), engine), y(y_layout, engine);
  dnnl::reorder(x_plain, x).execute(stream, x_plain, x);
  dnnl::reorder(w_plain, w).execute(stream, w_plain, w);
  stream.wait();
  const dnnl::matmul product(plan);
  return median_ms(shape, [&] {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
    stream.wait();
  });
}

std::string onednn(const std::vector<Shape>& shapes, const std::vector<std::string>& dtypes) {
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  try {
    for (const std::string& dtype : dtypes) {
      const auto type = dtype == "bf16" ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
      for (const Shape& shape : shapes) print_row("oneDNN", shape, dtype, onednn_ms(engine, stream, shape, type));
    }
  } catch (const dnnl::error& error) {
    return error.what();
  }
  return {};
}
#else
std::string onednn(const std::vector<Shape>&, const std::vector<std::string>&) {
  return "this program was built without oneDNN (Debian: libdnnl-dev)";
}
#endif

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "bench_libraries THREADS SHAPES DTYPES\n");
    return 2;
  }
  std::vector<Shape> shapes;
  for (const std::string& text : split(arguments[2])) {
    Shape shape{text, 0, 0, 0};
    if (std::sscanf(text.c_str(), "%ldx%ldx%ld", &shape.m, &shape.n, &shape.k) != 3) return 2;
    shapes.push_back(shape);
  }
  const std::vector<std::string> dtypes = split(arguments[3]);
  // oneDNN takes its threads from OpenMP, which reads this when it starts.
  setenv("OMP_NUM_THREADS", arguments[1], 1);
  std::printf("{\"rows\": [");
  const std::string no_openblas = openblas(std::atoi(arguments[1]), shapes, dtypes), no_onednn = onednn(shapes, dtypes);
  std::printf("],\n\"missing\": [");
  if (!no_openblas.empty())
    std::printf("{\"library\": \"OpenBLAS\", \"reason\": \"%s\"}%s", no_openblas.c_str(), no_onednn.empty() ? "" : ", ");
  if (!no_onednn.empty()) std::printf("{\"library\": \"oneDNN\", \"reason\": \"%s\"}", no_onednn.c_str());
  std::printf("]}\n");
  return 0;
}
