#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace lorikeet {

/// Begins to keep the work that this thread queues, beside queueing it, so that `launch` can run it again: same kernels, same tensors, no
/// JavaScript. Throws when a capture is under way already.
void begin_capture();

/// Ends it; returns the number that names the captured work on this thread, or 0 when it cannot be run again, because values came from
/// JavaScript or went there meanwhile.
int64_t end_capture();

/// Queues all the work of a capture as one. Every tensor in it is written anew in place; `results` are those that somebody reads, and are
/// poisoned when a part fails. Inputs that change must be written in place before.
void launch(int64_t capture, const std::vector<Tensor>& results);

/// Forgets a capture and lets go of its tensors, once what is queued has run.
void drop_capture(int64_t capture);

/// What enqueue calls: notes one work for the capture under way, if there is one.
void note_for_capture(const std::vector<Tensor>& outputs, const std::function<void()>& run);

/// What the binding calls where a value passes between JavaScript and a tensor: such a pass is not the same the next time.
void note_host_value();

}  // namespace lorikeet
