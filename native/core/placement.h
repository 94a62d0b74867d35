#pragma once

namespace lorikeet {

/// Keeps the threads of the pool on CPUs of their own. Some systems, virtual machines above all, leave two busy threads on one CPU beside
/// an idle one for as long as they run: every product then takes twice its time.

/// Notes on which CPU the calling thread, number `index` of the pool, takes part in a job.
void take_place(int index);

/// The same; where a thread of a smaller number is on this CPU, the thread first moves to an allowed CPU without a thread of the pool, if
/// there is one. It is not bound to it: what else runs may still push it away. Linux only; elsewhere it does nothing.
void take_place_apart(int index);

/// The thread sleeps: its CPU is free.
void leave_place(int index);

}  // namespace lorikeet
