#include "core/capture.h"

#include <map>
#include <memory>

#include "core/stream.h"

namespace lorikeet {
namespace {

struct CapturedWork {
  std::vector<Tensor> outputs;
  std::function<void()> run;
};

struct Capture {
  std::vector<CapturedWork> works;
  bool repeatable = true;

  void run() const {
    for (const CapturedWork& work : works) {
      for (const Tensor& output : work.outputs) {
        if (output.defined()) output.storage()->materialize();
      }
      work.run();
    }
  }
};

thread_local std::shared_ptr<Capture> under_way;
thread_local std::map<int64_t, std::shared_ptr<const Capture>> captures;
thread_local int64_t last_capture = 0;

}  // namespace

void begin_capture() {
  check_argument(under_way == nullptr, "capture: one is under way already");
  under_way = std::make_shared<Capture>();
}

int64_t end_capture() {
  check_argument(under_way != nullptr, "capture: none is under way");
  std::shared_ptr<const Capture> capture = std::move(under_way);
  under_way = nullptr;
  if (!capture->repeatable) return 0;
  captures[++last_capture] = std::move(capture);
  return last_capture;
}

void launch(int64_t capture, const std::vector<Tensor>& results) {
  const auto found = captures.find(capture);
  check_argument(found != captures.end(), "launch: no capture has this number; got ", capture);
  enqueue("launch", {}, results, [work = found->second] { work->run(); });
}

void drop_capture(int64_t capture) { captures.erase(capture); }

void note_for_capture(const std::vector<Tensor>& outputs, const std::function<void()>& run) {
  if (under_way != nullptr) under_way->works.push_back({outputs, run});
}

void note_host_value() {
  if (under_way != nullptr) under_way->repeatable = false;
}

}  // namespace lorikeet
