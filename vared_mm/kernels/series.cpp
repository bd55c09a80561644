// Calls of other kernels, one after the other: between two that are made from Python a core's caches
// fill with Python.

#include <array>
#include <cstddef>
#include <utility>

namespace {

constexpr long MOST = 48;

template <std::size_t... I>
void call(const void *function, const long *values, std::index_sequence<I...>) {
    // Numbers and places alike: they are as wide, and told in the same way.
    using Kernel = void (*)(decltype(void(I), 0L)...);
    reinterpret_cast<Kernel>(const_cast<void *>(function))(values[I]...);
}

template <std::size_t COUNT>
void call_of(const void *function, const long *values) {
    call(function, values, std::make_index_sequence<COUNT>());
}

using Caller = void (*)(const void *, const long *);
template <std::size_t... COUNT>
constexpr std::array<Caller, sizeof...(COUNT)> callers(std::index_sequence<COUNT...>) {
    return {call_of<COUNT>...};
}
// By how many arguments a kernel has.
constexpr auto CALLERS = callers(std::make_index_sequence<MOST + 1>());

}  // namespace

// How many arguments a kernel may have.
extern "C" long most_arguments() { return MOST; }

// `script` tells of each call: the kernel, how many arguments it has, which of them is the number of
// threads or -1, how many are places in memory; all arguments; and of those places which argument it
// is, which of the `bases`, and how many bytes from there on.
extern "C" void series(const long *script, long calls, const long *bases, long threads) {
    for (long i = 0; i < calls; i++) {
        const void *kernel = reinterpret_cast<const void *>(script[0]);
        const long count = script[1], of_threads = script[2], places = script[3];
        long values[MOST];
        script += 4;
        for (long j = 0; j < count; j++) values[j] = *script++;
        for (long j = 0; j < places; j++, script += 3)
            values[script[0]] = bases[script[1]] + script[2];
        if (of_threads >= 0) values[of_threads] = threads;
        CALLERS[count](kernel, values);
    }
}
