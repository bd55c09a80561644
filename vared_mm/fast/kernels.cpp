// `rebuild`: what `vared_mm.method.rebuild` does in several passes over the maps, and what follows
// it, in one:
//
//     out = activate( scale * rebuild(y) + bias + residual )
//
// `max_pool`: torch's, which takes several times as long over maps that lie channels last.
//
// `decide`: what `vared_mm.method.gate` does in evaluation, its BatchNorm folded into weight1.
//
// Maps lie channels last, (N, F, H, W, C), so the innermost loops run over channels. Symbols as in
// rebuild.py: k_i channels and every R_j-th frame are computed; F computed frames, T of the output.

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace {

constexpr long MOST_PATHS = 4;
// A strip of rows, and what it is rebuilt from, stays in a core's own cache: this many floats.
constexpr long STRIP = 1 << 17;

struct Path {
    long gate;         // its column in a sample's gates
    long scale;        // k_i, or R_j
    const float *phi;  // (taps, C - k_i), or (R_j - 1, taps, C); null where nothing is rebuilt
};

struct Layer {
    long channels, computed, side, relu, channel_paths, time_paths, gates;
    Path channel[MOST_PATHS], time[MOST_PATHS];  // the open ones, the most computed first
    const float *scale, *bias;                   // (C,)
};

struct Size {
    long samples, frames, computed_frames, height, width;
    long pixel;  // floats from one pixel of y to the next
};

struct Plane {
    const float *at;  // where row 0 is, or would be
    long pixel, height, width;
};

// LANES channels at once, at any address.
template <int LANES>
struct Vector {
    typedef float type __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
};

// Where a row is written, what it is added to, and what happens to the sum.
struct Row {
    float *out;
    long pixel;
    const float *from;
    long from_pixel;                  // 0 if `from` is the same for all pixels
    const float *residual = nullptr;  // as `out`
    bool relu = false;

    void move(long channels) {
        out += channels, from += channels;
        if (residual) residual += channels;
    }
};

// A depthwise convolution of row h of `map`, for LANES channels.
template <int SIDE, int LANES>
void lanes_of_row(const Row &row, const Plane &map, long h, const float *weight, long pitch) {
    using Lanes = typename Vector<LANES>::type;
    const auto load = [](const float *at) { return *reinterpret_cast<const Lanes *>(at); };
    static const float zeros[LANES] = {};
    Lanes kernel[SIDE][SIDE];
    const float *line[SIDE];
    long pixel[SIDE];
    for (long y = 0; y < SIDE; y++) {
        const long at = h + y - SIDE / 2;
        const bool inside = at >= 0 && at < map.height;
        pixel[y] = inside ? map.pixel : 0;
        line[y] = inside ? map.at + at * map.width * map.pixel : zeros;
        for (long x = 0; x < SIDE; x++) kernel[y][x] = load(weight + (y * SIDE + x) * pitch);
    }
    for (long w = 0; w < map.width; w++) {
        Lanes sum = load(row.from + w * row.from_pixel);
        const long left = w - SIDE / 2;
        if (left >= 0 && left + SIDE <= map.width) {
            for (long y = 0; y < SIDE; y++)
                for (long x = 0; x < SIDE; x++)
                    sum += kernel[y][x] * load(line[y] + (left + x) * pixel[y]);
        } else {
            for (long x = std::max(0L, -left); x < std::min<long>(SIDE, map.width - left); x++)
                for (long y = 0; y < SIDE; y++)
                    sum += kernel[y][x] * load(line[y] + (left + x) * pixel[y]);
        }
        if (row.residual) sum += load(row.residual + w * row.pixel);
        if (row.relu) sum = sum < 0 ? Lanes{} : sum;
        *reinterpret_cast<Lanes *>(row.out + w * row.pixel) = sum;
    }
}

template <int SIDE>
void row_of(Row row, Plane map, long h, const float *weight, long count, long pitch) {
    const auto run = [&](auto lanes) {
        constexpr int LANES = decltype(lanes)::value;
        for (; count >= LANES; count -= LANES) {
            lanes_of_row<SIDE, LANES>(row, map, h, weight, pitch);
            row.move(LANES), map.at += LANES, weight += LANES;
        }
    };
    run(std::integral_constant<int, 16>());
    run(std::integral_constant<int, 8>());
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 2>());
    run(std::integral_constant<int, 1>());
}

void depthwise(long side, const Row &row, const Plane &map, long h, const float *weight, long count,
               long pitch) {
    const auto run =
        side == 1 ? row_of<1> : side == 3 ? row_of<3> : side == 5 ? row_of<5> : row_of<7>;
    run(row, map, h, weight, count, pitch);
}

// The weights of one layer, multiplied by one sample's gates.
struct Weights {
    std::vector<float> direct, zeros;             // (computed,), what is handed on
    std::vector<std::vector<float>> channel;      // per path
    std::vector<std::vector<float>> handed, time; // per frame of a period; per path

    void set(const Layer &l, const float *gates, bool channels_rebuilt) {
        const long taps = l.side * l.side, c_all = l.channels;
        zeros.assign(c_all, 0.f);
        direct.assign(l.computed, 0.f);
        channel.assign(l.channel_paths, {});
        float whole = l.channel_paths && !channels_rebuilt ? gates[l.channel[0].gate] : 1.f;
        for (long i = 0; channels_rebuilt && i < l.channel_paths; i++) {
            const Path &p = l.channel[i];
            for (long c = 0; c < p.scale; c++) direct[c] += gates[p.gate];
            if (!p.phi) continue;
            channel[i].assign(p.phi, p.phi + taps * (c_all - p.scale));
            for (float &w : channel[i]) w *= gates[p.gate];
        }
        const long period = l.time_paths ? l.time[l.time_paths - 1].scale : 1;
        handed.assign(period, {});
        time.assign(l.time_paths, {});
        for (long q = 0; q < period; q++) {
            float sum = l.time_paths ? 0.f : 1.f;
            for (long j = 0; j < l.time_paths; j++)
                if (q % l.time[j].scale == 0) sum += gates[l.time[j].gate];
            if (sum == 0.f) continue;
            handed[q].resize(c_all);
            for (long c = 0; c < c_all; c++) handed[q][c] = sum * whole * l.scale[c];
        }
        for (long j = 0; j < l.time_paths; j++) {
            const Path &p = l.time[j];
            if (!p.phi) continue;
            time[j].resize((p.scale - 1) * taps * c_all);
            for (size_t k = 0; k < time[j].size(); k++)
                time[j][k] = p.phi[k] * gates[p.gate] * whole * l.scale[k % c_all];
        }
    }
};

// All channels of row h of a computed frame, from the computed ones.
void channels_of_row(const Layer &l, const Weights &w, const Plane &y, long h, float *out) {
    const float *zeros = w.zeros.data();
    depthwise(1, {out, l.channels, zeros, 0}, y, h, w.direct.data(), l.computed, 0);
    for (long i = 0; i < l.channel_paths; i++) {
        const long k = l.channel[i].scale, left = l.channels - k;
        for (long start = 0; start < left; start += k) {
            // Beyond the computed channels the widest path is the first to write.
            float *to = out + k + start;
            const bool first = k == l.computed;
            const Row row{to, l.channels, first ? zeros : to, first ? 0 : l.channels};
            const long count = std::min(k, left - start);
            depthwise(l.side, row, y, h, w.channel[i].data() + start, count, left);
        }
    }
}

// Row h of frame q of a period, from the planes of the period's computed frames.
void frame_row(const Layer &l, const Weights &w, const std::vector<Plane> &planes, long step,
               long q, long h, const float *residual, float *out) {
    const long c_all = l.channels, taps = l.side * l.side;
    struct Term {
        const Plane &plane;
        const float *weight;
        long side;
    };
    std::vector<Term> terms;
    if (!w.handed[q].empty()) terms.push_back({planes[q / step], w.handed[q].data(), 1});
    for (long j = 0; j < l.time_paths; j++) {
        const long part = q % l.time[j].scale;
        if (!part) continue;
        const float *weight = w.time[j].data() + (part - 1) * taps * c_all;
        terms.push_back({planes[(q - part) / step], weight, l.side});
    }
    Row row{out, c_all, l.bias, 0};
    for (const Term &term : terms) {
        const bool last = &term == &terms.back();
        row.residual = last ? residual : nullptr, row.relu = last && l.relu;
        depthwise(term.side, row, term.plane, h, term.weight, c_all, c_all);
        row.from = out, row.from_pixel = c_all;
    }
}

struct Gate {
    long channels, hidden, axes, choices;
    const float *weight1, *bias1;  // (hidden, C), (hidden,)
    const float *weight2, *beta;   // (axes * choices, hidden), (axes * choices,)
    float floor;
};

// The mean of each sample's channels: pieces in float, their sum in double.
std::vector<float> means(const float *x, long samples, long pixels, long channels, long threads) {
    const long piece = 256, pieces = (pixels + piece - 1) / piece;
    std::vector<float> partial(samples * pieces * channels, 0.f), mean(samples * channels);
#pragma omp parallel for num_threads(threads)
    for (long unit = 0; unit < samples * pieces; unit++) {
        const long first = unit % pieces * piece, last = std::min(first + piece, pixels);
        float *sum = partial.data() + unit * channels;
        for (long p = first; p < last; p++) {
            const float *at = x + (unit / pieces * pixels + p) * channels;
#pragma GCC ivdep
            for (long c = 0; c < channels; c++) sum[c] += at[c];
        }
    }
    for (long n = 0; n < samples; n++)
        for (long c = 0; c < channels; c++) {
            double sum = 0;
            for (long k = 0; k < pieces; k++) sum += partial[(n * pieces + k) * channels + c];
            mean[n * channels + c] = sum / pixels;
        }
    return mean;
}

double dot(const float *a, const float *b, long count) {
    double sum = 0;
    for (long i = 0; i < count; i++) sum += double(a[i]) * b[i];
    return sum;
}

}  // namespace

// The answer of a gate, (samples, axes * choices), for x channels last. NaN stays NaN.
extern "C" void decide(const Gate *gate, const float *x, long samples, long pixels, float *answer,
                       long threads) {
    const Gate &g = *gate;
    const std::vector<float> mean = means(x, samples, pixels, g.channels, threads);
    std::vector<float> hidden(g.hidden);
    for (long n = 0; n < samples; n++) {
        for (long i = 0; i < g.hidden; i++) {
            const float *weight = g.weight1 + i * g.channels;
            hidden[i] = std::tanh(dot(weight, &mean[n * g.channels], g.channels) + g.bias1[i]);
        }
        for (long axis = 0; axis < g.axes; axis++, answer += g.choices) {
            for (long i = 0; i < g.choices; i++) {
                const long row = axis * g.choices + i;
                const double z = dot(g.weight2 + row * g.hidden, hidden.data(), g.hidden);
                answer[i] = std::tanh(z + g.beta[row]);
            }
            float *largest = std::max_element(answer, answer + g.choices);
            if (*largest <= 0) *largest = g.floor;
            for (long i = 0; i < g.choices; i++) answer[i] = answer[i] < 0 ? 0 : answer[i];
        }
    }
}

struct Pool {
    long samples, channels;
    long from[3], to[3], kernel[3], stride[3], padding[3];  // T, H, W
};

// The first of two, if it is larger or NaN; without a branch, so that many fit one instruction.
inline float larger(float a, float b) { return (a > b) | (a != a) ? a : b; }

extern "C" void max_pool(const Pool *pool, const float *x, float *out, long threads) {
    const Pool &p = *pool;
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < p.samples * p.to[0] * p.to[1]; row++) {
        const long n = row / (p.to[0] * p.to[1]);
        for (long w = 0; w < p.to[2]; w++) {
            const long at[3] = {row / p.to[1] % p.to[0], row % p.to[1], w};
            long low[3], high[3];
            for (long d = 0; d < 3; d++) {
                const long first = at[d] * p.stride[d] - p.padding[d];
                low[d] = std::max(first, 0L), high[d] = std::min(first + p.kernel[d], p.from[d]);
            }
            float *largest = out + (row * p.to[2] + w) * p.channels;
            std::fill(largest, largest + p.channels, -INFINITY);
            for (long t = low[0]; t < high[0]; t++)
                for (long h = low[1]; h < high[1]; h++)
                    for (long v = low[2]; v < high[2]; v++) {
                        const long pixel = ((n * p.from[0] + t) * p.from[1] + h) * p.from[2] + v;
                        const float *one = x + pixel * p.channels;
#pragma GCC ivdep
                        for (long c = 0; c < p.channels; c++)
                            largest[c] = larger(one[c], largest[c]);
                    }
        }
    }
}

// Sample n of y, with gates (N, l.gates), is written to sample place[n] of out.
extern "C" void rebuild(const Layer *layer, const Size *size, const float *y, const float *gates,
                        const long *place, const float *residual, float *out, long threads) {
    const Layer &l = *layer;
    const Size &s = *size;
    const bool channels_rebuilt = l.computed < l.channels || l.channel_paths > 1;
    const long step = l.time_paths ? l.time[0].scale : 1;
    const long period = l.time_paths ? l.time[l.time_paths - 1].scale : 1;
    const long bases = period / step, halo = period > 1 ? l.side / 2 : 0;
    const long line = s.width * l.channels;
    const long rows = std::clamp(STRIP / (line * bases), std::min(4L, s.height), s.height);
    const long strips = (s.height + rows - 1) / rows, blocks = (s.frames + period - 1) / period;

#pragma omp parallel num_threads(threads)
    {
        Weights weights;
        std::vector<float> scratch(channels_rebuilt ? bases * (rows + 2 * halo) * line : 0);
        long ready = -1;
#pragma omp for
        for (long unit = 0; unit < s.samples * blocks * strips; unit++) {
            const long n = unit / (blocks * strips), block = unit / strips % blocks;
            const long top = unit % strips * rows, bottom = std::min(top + rows, s.height);
            const long above = std::max(top - halo, 0L), below = std::min(bottom + halo, s.height);
            if (n != ready) weights.set(l, gates + n * l.gates, channels_rebuilt), ready = n;

            std::vector<Plane> planes;
            for (long b = 0; b < bases; b++) {
                const long frame = block * bases + b;
                if (frame >= s.computed_frames) break;
                const long offset = (n * s.computed_frames + frame) * s.height * s.width * s.pixel;
                Plane plane{y + offset, s.pixel, s.height, s.width};
                if (channels_rebuilt) {
                    float *strip = scratch.data() + b * (rows + 2 * halo) * line;
                    for (long h = above; h < below; h++)
                        channels_of_row(l, weights, plane, h, strip + (h - above) * line);
                    plane = {strip - above * line, l.channels, s.height, s.width};
                }
                planes.push_back(plane);
            }
            for (long q = 0; q < period && block * period + q < s.frames; q++) {
                const long image = place[n] * s.frames + block * period + q;
                for (long h = top; h < bottom; h++) {
                    const long at = (image * s.height + h) * line;
                    frame_row(l, weights, planes, step, q, h, residual ? residual + at : nullptr,
                              out + at);
                }
            }
        }
    }
}
