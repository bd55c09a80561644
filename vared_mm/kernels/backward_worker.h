// What one thread does with a block of frames: see rebuild_backward.cpp.

#include <algorithm>
#include <utility>
#include <vector>

namespace {

struct Size {
    long samples, channels, frames, height, width;
    long channel_paths, time_paths;  // S of each axis, 1 without it

    // Frames from one that every path keeps to the next, and how often that is.
    long period() const { return 1L << (time_paths - 1); }
    long blocks() const { return (frames + period() - 1) / period(); }
};

template <int LANES>
double sum(const Lanes<LANES> &v) {
    double total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

// Calls work(lanes, c) for the channels from `low` to `high`, as many at once as fit a vector.
template <typename Work>
void by_lanes(long low, long high, Work work) {
    for (; high - low >= WIDEST; low += WIDEST) work(std::integral_constant<int, WIDEST>{}, low);
    if (high - low >= 8) work(std::integral_constant<int, 8>{}, low), low += 8;
    if (high - low >= 4) work(std::integral_constant<int, 4>{}, low), low += 4;
    if (high - low >= 2) work(std::integral_constant<int, 2>{}, low), low += 2;
    if (high - low >= 1) work(std::integral_constant<int, 1>{}, low);
}

// A frame of maps: where it begins, and floats from one row to the next.
struct Frame {
    float *at;
    long line;
};

// The frame whose channel c is this one's channel c + from.
Frame shifted(const Frame &frame, long from) { return {frame.at + from, frame.line}; }

// One path, and what its gradients have grown to.
struct Path {
    long scale, rows;           // k_i, or R_j
    std::vector<float> phi;     // (taps, rows)
    std::vector<double> d_phi;  // the same
    double d_gate;              // of the block worked on
};

// What one thread needs, and does with one block of frames: those from one that every path keeps
// to the next.
template <int SIDE>
struct Worker {
    static constexpr long HALF = SIDE / 2, TAPS = SIDE * SIDE;

    const Size &s;
    std::vector<Path> channel, time;
    std::vector<float> memory;

    Worker(const Size &size, float *const *cheap) : s(size) {
        for (long i = 0; i < s.channel_paths; i++) {
            const long k = ((s.channels - 1) >> i) + 1;
            channel.push_back(path(k, s.channels - k, i ? *cheap++ : nullptr));
        }
        for (long j = 0; j < s.time_paths; j++)
            time.push_back(path(1L << j, ((1L << j) - 1) * s.channels, j ? *cheap++ : nullptr));
        memory.resize((3 + time.back().scale) * padded_floats());
    }

    static Path path(long scale, long rows, const float *cheap) {
        Path p{scale, rows, std::vector<float>(TAPS * rows), std::vector<double>(TAPS * rows), 0};
        for (long i = 0; i < TAPS * rows; i++) p.phi[i % TAPS * rows + i / TAPS] = cheap[i];
        return p;
    }

    long padded_floats() const {
        return (s.height + 2 * HALF) * (s.width + 2 * HALF) * s.channels;
    }

    // The inside of frame `place` of the memory; what surrounds it stays zero.
    Frame room(long place) {
        const long line = (s.width + 2 * HALF) * s.channels;
        return {memory.data() + place * padded_floats() + HALF * (line + s.channels), line};
    }

    Frame padded(const Frame &from, long place) {
        const Frame to = room(place);
        for (long h = 0; h < s.height; h++)
            std::copy_n(from.at + h * from.line, s.width * s.channels, to.at + h * to.line);
        return to;
    }

    Frame frame(float *block, long q) const {
        const long line = s.width * s.channels;
        return {block + q * s.height * line, line};
    }

    bool is_base(long q) const { return time.size() > 1 && q % 2 == 0; }

    template <typename Work>
    void each_pixel(Work work) const {
        // Copies, which no store could change.
        const long height = s.height, width = s.width, pixel = s.channels;
        for (long h = 0; h < height; h++)
            for (long w = 0; w < width; w++) work(h, w * pixel);
    }

    // to = f·x for the channels from `low` to `high`.
    void keep(const Frame &x, const Frame &to, long low, long high, float f) const {
        by_lanes(low, high, [&](auto count, long c) {
            constexpr int L = decltype(count)::value;
            each_pixel([&](long h, long w) {
                lanes<L>(to.at + h * to.line + w + c) = f * lanes<L>(x.at + h * x.line + w + c);
            });
        });
    }

    // dx = f·g; returns <g, x>.
    double keep_back(const Frame &x, const Frame &g, const Frame &dx, long low, long high,
                     float f) const {
        double dot = 0;
        by_lanes(low, high, [&](auto count, long c) {
            constexpr int L = decltype(count)::value;
            Lanes<L> total{};
            each_pixel([&](long h, long w) {
                const Lanes<L> in = lanes<L>(g.at + h * g.line + w + c);
                total += in * lanes<L>(x.at + h * x.line + w + c);
                lanes<L>(dx.at + h * dx.line + w + c) = f * in;
            });
            dot += sum<L>(total);
        });
        return dot;
    }

    // to += f·Φ(x) for `number` channels, made by the rows of Φ from `row` on; x is padded.
    void rebuild(const Frame &x, const Frame &to, long number, const Path &p, long row,
                 float f) const {
        by_lanes(0, number, [&](auto count, long c) {
            constexpr int L = decltype(count)::value;
            Lanes<L> kernel[TAPS];
            for (long k = 0; k < TAPS; k++)
                kernel[k] = f * lanes<L>(const_cast<float *>(&p.phi[k * p.rows + row + c]));
            each_pixel([&](long h, long w) {
                const float *corner = x.at + (h - HALF) * x.line + w - HALF * s.channels + c;
                Lanes<L> made = lanes<L>(to.at + h * to.line + w + c);
                for (long i = 0; i < SIDE; i++)
                    for (long k = 0; k < SIDE; k++)
                        made += kernel[i * SIDE + k] *
                                lanes<L>(const_cast<float *>(corner) + i * x.line +
                                         k * s.channels);
                lanes<L>(to.at + h * to.line + w + c) = made;
            });
        });
    }

    // dx += f·Φᵀ(g), dΦ += f·(its gradient from x and g); returns <g, Φ(x)>; g is padded. One pass:
    // pixel p of x meets the same g both times, g[p - tap] for each tap.
    double rebuild_back(const Frame &x, const Frame &g, const Frame &dx, long number, Path &p,
                        long row, float f) const {
        double dot = 0;
        by_lanes(0, number, [&](auto count, long c) {
            constexpr int L = decltype(count)::value;
            Lanes<L> kernel[TAPS], d_kernel[TAPS] = {}, total{};
            for (long k = 0; k < TAPS; k++)
                kernel[k] = f * lanes<L>(&p.phi[k * p.rows + row + c]);
            each_pixel([&](long h, long w) {
                float *corner = g.at + (h + HALF) * g.line + w + HALF * s.channels + c;
                const Lanes<L> own = lanes<L>(x.at + h * x.line + w + c);
                Lanes<L> made = lanes<L>(dx.at + h * dx.line + w + c);
                for (long i = 0; i < SIDE; i++)
                    for (long k = 0; k < SIDE; k++) {
                        const Lanes<L> in = lanes<L>(corner - i * g.line - k * s.channels);
                        made += kernel[i * SIDE + k] * in;
                        d_kernel[i * SIDE + k] += own * in;
                    }
                lanes<L>(dx.at + h * dx.line + w + c) = made;
            });
            for (long k = 0; k < TAPS; k++) {
                const long at = k * p.rows + row + c;
                total += d_kernel[k] * lanes<L>(&p.phi[at]);
                for (int i = 0; i < L; i++) p.d_phi[at + i] += f * d_kernel[k][i];
            }
            dot += sum<L>(total);
        });
        return dot;
    }

    // Calls work(start, count) for the parts of a channel path, which begin at channel `start`.
    template <typename Work>
    void each_part(const Path &p, Work work) const {
        for (long start = p.scale; start < s.channels; start += p.scale)
            work(start, std::min(p.scale, s.channels - start));
    }

    // to = f·Σ_i V[i]·(x_i, Φ_i(x_i)) along the channels.
    void channels(const Frame &from, const Frame &to, const float *gates, float f) {
        const Frame x = channel.size() > 1 ? padded(from, 0) : from;
        float kept = 0;
        for (size_t i = 0; i < channel.size(); i++) {
            kept += f * gates[i];
            keep(x, to, i + 1 < channel.size() ? channel[i + 1].scale : 0, channel[i].scale, kept);
        }
        for (size_t i = 1; i < channel.size(); i++)
            each_part(channel[i], [&](long start, long count) {
                rebuild(x, shifted(to, start), count, channel[i], start - channel[i].scale,
                        f * gates[i]);
            });
    }

    // Its gradients for f·g. Returns <g, Σ_i V[i]·(x_i, Φ_i(x_i))>; g is padded.
    double channels_back(const Frame &x, const Frame &g, const Frame &dx, const float *gates,
                         float f) {
        float kept = 0;
        double whole = 0;
        for (size_t i = 0; i < channel.size(); i++) {
            kept += gates[i];
            const long low = i + 1 < channel.size() ? channel[i + 1].scale : 0;
            const double dot = keep_back(x, g, dx, low, channel[i].scale, f * kept);
            for (size_t wider = 0; wider <= i; wider++) channel[wider].d_gate += f * dot;
            whole += kept * dot;
        }
        for (size_t i = 1; i < channel.size(); i++)
            each_part(channel[i], [&](long start, long count) {
                const double dot = rebuild_back(x, shifted(g, start), dx, count, channel[i],
                                                start - channel[i].scale, f * gates[i]);
                channel[i].d_gate += f * dot;
                whole += gates[i] * dot;
            });
        return whole;
    }

    // What the paths that keep frame q multiply it by.
    float kept(long q, const float *gates) const {
        float sum = 0;
        for (size_t j = 0; j < time.size(); j++)
            if (q % time[j].scale == 0) sum += gates[j];
        return sum;
    }

    void backward(float *y, float *g, float *dy, long frames, const float *by_channel,
                  const float *by_time) {
        for (long q = 0; q < frames; q++) padded(frame(g, q), 3 + q);
        for (long q = 0; q < frames; q++) {
            Frame dz = room(3 + q);
            if (is_base(q)) dz = base_back(frame(y, q), q, frames, by_channel, by_time);
            const double dot = channels_back(frame(y, q), dz, frame(dy, q), by_channel,
                                             is_base(q) ? 1 : by_time[0]);
            if (!is_base(q)) time[0].d_gate += dot;
        }
    }

    // The gradient of z's frame q. z is made again: to keep it would take half the memory of y.
    Frame base_back(const Frame &y, long q, long frames, const float *by_channel,
                    const float *by_time) {
        const Frame z = room(1), dz = room(2);
        channels(y, z, by_channel, 1);
        const double dot = keep_back(z, room(3 + q), dz, 0, s.channels, kept(q, by_time));
        for (size_t j = 0; j < time.size(); j++) {
            if (q % time[j].scale) continue;
            time[j].d_gate += dot;
            for (long part = 1; part < time[j].scale && q + part < frames; part++)
                time[j].d_gate += rebuild_back(z, room(3 + q + part), dz, s.channels, time[j],
                                               (part - 1) * s.channels, by_time[j]);
        }
        return dz;
    }

    // Writes a block's gradients of the gates, of the channels first, and forgets them.
    void hand_gates(double *to) {
        for (std::vector<Path> *axis : {&channel, &time})
            for (Path &p : *axis) *to++ = std::exchange(p.d_gate, 0);
    }

    // Adds its own to the kernels' gradients, (rows, taps) each.
    void hand_kernels(float *const *d_cheap) const {
        for (const std::vector<Path> *axis : {&channel, &time})
            for (size_t path = 1; path < axis->size(); path++, d_cheap++) {
                const Path &p = (*axis)[path];
                for (long i = 0; i < TAPS * p.rows; i++)
                    (*d_cheap)[i] += p.d_phi[i % TAPS * p.rows + i / TAPS];
            }
    }
};

}  // namespace
