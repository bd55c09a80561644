// The gradients of `rebuild` with all paths open, which few_passes.py takes several passes over the maps for:
// frame by frame, while the frame is in the cache. Symbols as there; f is what a path's gate is
// multiplied by.
//
// Maps lie channels last, (N, T, H, W, C), so the innermost loops run over channels. Φ is read as
// (taps, rows): row r of a path's kernels makes one channel of one part.
//
// Frames 0, 2, 4, ... are bases: other frames are rebuilt from them. z = Σ_i V_c[i]·(y_i, Φ_i(y_i))
// is the maps after the channel axis. For a frame that is no base, V_t[0]·z is its whole share, and
// V_t[0] is put into f instead of making z.

#include <omp.h>

namespace {

// Sums come out alike every time: each thread gets the same blocks, of period() frames, and hands
// over what it has after the one before.
template <int SIDE>
void back(const Size &s, float *g, float *y, const float *by_channel, const float *by_time,
          float *const *cheap, float *dy, double *d_gates, float *const *d_cheap, long channel_step,
          long time_step, long threads) {
    const long period = s.period(), blocks = s.blocks();
    const long columns = s.channel_paths + s.time_paths;
#pragma omp parallel num_threads(threads)
    {
        Worker<SIDE> worker(s, cheap);
#pragma omp for schedule(static)
        for (long unit = 0; unit < s.samples * blocks; unit++) {
            const long n = unit / blocks, first = unit % blocks * period;
            const long at = (n * s.frames + first) * s.height * s.width * s.channels;
            worker.backward(y + at, g + at, dy + at, std::min(period, s.frames - first),
                            by_channel + n * channel_step, by_time + n * time_step);
            worker.hand_gates(d_gates + unit * columns);
        }
#pragma omp for ordered schedule(static, 1)
        for (long thread = 0; thread < omp_get_num_threads(); thread++) {
#pragma omp ordered
            worker.hand_kernels(d_cheap);
        }
    }
}

}  // namespace

// Of maps (N, T, H, W, C) and gates (N, channel_paths + time_paths), where an axis that there is not
// has no paths. Φ (rows, side * side) of the channel paths first; d_cheap begins as zeros.
extern "C" void rebuild_backward(const float *g, const float *y, const float *gates, float *dy,
                                 float *d_gates, long samples, long channels, long frames,
                                 long height, long width, long channel_paths, long time_paths,
                                 long side, float *const *cheap, float *const *d_cheap,
                                 long threads) {
    // An axis that there is not has one path, whose gate is 1.
    const float one = 1;
    const long columns = channel_paths + time_paths;
    const Size s{samples, channels, frames, height, width, std::max(channel_paths, 1L),
                 std::max(time_paths, 1L)};
    const long all = s.channel_paths + s.time_paths, blocks = s.blocks();
    std::vector<double> parts(samples * blocks * all);
    const auto run = side == 1   ? back<1>
                     : side == 3 ? back<3>
                     : side == 5 ? back<5>
                                 : back<7>;
    run(s, const_cast<float *>(g), const_cast<float *>(y), channel_paths ? gates : &one,
        time_paths ? gates + channel_paths : &one, cheap, dy, parts.data(), d_cheap,
        channel_paths ? columns : 0, time_paths ? columns : 0, threads);
    for (long n = 0; n < samples; n++)
        for (long i = 0; i < columns; i++) {
            double total = 0;
            for (long b = 0; b < blocks; b++)
                total += parts[(n * blocks + b) * all + i + (channel_paths ? 0 : 1)];
            d_gates[n * columns + i] = total;
        }
}
