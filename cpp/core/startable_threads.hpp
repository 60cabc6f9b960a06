// How many threads the system lets this process start.
#pragma once

namespace dlcore {

// Starts up to `wanted` threads, ends them, and says how many there were. A limit on the threads of
// a user or a container is known in no other way, and libgomp ends the process at the first thread
// that it cannot start.
int startable_threads(int wanted);

}  // namespace dlcore
