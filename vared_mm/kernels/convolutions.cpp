// Pointwise and depthwise convolutions, and what follows them, in one pass over the maps:
//
//     out = activate( factor · scale · conv(x) + bias + residual )
//
// Maps lie channels last, (N, T, H, W, C), and have 16 channels or more. The channels are taken in
// vectors of 16, of which the last begins early and makes some channels a second time.

namespace {

// Pixels of a row that share a load of the taps, at most.
constexpr long ALONG = 8;

struct Depthwise {
    long channels, kernel, step, stride;  // kernel and stride in time, stride in space
    const float *taps;                    // (vectors, kernel * 9, 16)
};

// What meets a row of the output: rows of the input, up to 9, and the three taps for each.
struct Meeting {
    const float *row[9], *taps[9];
    long count = 0;
};

template <int COUNT, int STRIDE>
void slide(const Meeting &m, long w, const Finish finish, const Map *residual, Map *out,
           long pitch) {
    Sixteen sum[COUNT];
#pragma GCC unroll 2
    for (long p = 0; p < LANES; p += WIDEST) {
        Lanes<WIDEST> own[COUNT] = {};
        for (long r = 0; r < m.count; r++) {
            const float *taps = m.taps[r] + p, *x = m.row[r] + w * STRIDE * LANES + p;
            const Lanes<WIDEST> a = load<WIDEST>(taps), b = load<WIDEST>(taps + LANES);
            const Lanes<WIDEST> c = load<WIDEST>(taps + 2 * LANES);
#pragma GCC unroll 8
            for (long i = 0; i < COUNT; i++) {
                const float *at = x + i * STRIDE * LANES;
                own[i] += a * load<WIDEST>(at);
                own[i] += b * load<WIDEST>(at + LANES);
                own[i] += c * load<WIDEST>(at + 2 * LANES);
            }
        }
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++) part_of(sum[i], p) = own[i];
    }
#pragma GCC unroll 8
    for (long i = 0; i < COUNT; i++) {
        const long at = (w + i) * pitch;
        finish.write(sum[i], residual ? residual + at : nullptr, out + at);
    }
}

using Slide = decltype(&slide<1, 1>);
template <int STRIDE>
constexpr Slide SLIDES[ALONG] = {slide<1, STRIDE>, slide<2, STRIDE>, slide<3, STRIDE>,
                                 slide<4, STRIDE>, slide<5, STRIDE>, slide<6, STRIDE>,
                                 slide<7, STRIDE>, slide<8, STRIDE>};

// The pointwise convolution that makes what the depthwise one reads, and a sample's factor in it.
struct Expansion {
    const Pointwise *conv;
    const Epilogue *epilogue;
    float factor;
    std::vector<long> &place;  // of the pixels of a tile
};

// Rows `top` to `bottom` of some frames of one sample. The frames of x that are read lie in a ring,
// each vector of channels by itself, between columns of zeros.
struct Strip {
    const Depthwise &d;
    const Epilogue &e;
    const Clip &s;
    const Map *x, *residual;
    Map *out;
    float *ring;
    long top, bottom;
    float factor;
    const Expansion *expansion;

    const long vectors = vectors_of(d.channels), line = (s.width + 2) * LANES;
    const long low = std::max(top * d.stride - 1, 0L);
    const long high = std::min((bottom - 1) * d.stride + 2, s.height);

    float *tile(long frame, long vector) const {
        return ring + (frame % d.kernel * vectors + vector) * (high - low) * line;
    }

    void run(long first, long last) const {
        for (long row = 0; row < d.kernel * vectors * (high - low); row++) {
            put(ring + row * line, Sixteen{});
            put(ring + (row + 1) * line - LANES, Sixteen{});
        }
        if (expansion) {
            expansion->place.clear();
            for (long h = 0; h < high - low; h++)
                for (long w = 0; w < s.width; w++)
                    expansion->place.push_back(h * line + (w + 1) * LANES);
        }
        long read = std::max(first * d.step - d.kernel / 2, 0L);
        for (long t = first; t < last; t++) {
            const long until = std::min(t * d.step + d.kernel / 2 + 1, s.frames);
            for (read = std::max(read, t * d.step - d.kernel / 2); read < until; read++)
                expansion ? expand(read) : copy(read);
            for (long v = 0; v < vectors; v++) make(t, v);
        }
    }

    void copy(long frame) const {
        for (long v = 0; v < vectors; v++) {
            const Map *from = x + frame * s.height * s.width * s.pixel + start_of(v, d.channels);
            float *to = tile(frame, v);
            for (long h = low; h < high; h++, to += line) {
                for (long w = 0; w < s.width; w++)
                    put(to + (w + 1) * LANES, take(from + (h * s.width + w) * s.pixel));
            }
        }
    }

    void expand(long frame) const {
        const Map *from = x + (frame * s.height + low) * s.width * s.pixel;
        panels(*expansion->conv, *expansion->epilogue, from, s.pixel, (high - low) * s.width,
               expansion->factor, nullptr, tile(frame, 0),
               InTiles{expansion->place.data(), (high - low) * line});
    }

    void make(long t, long v) const {
        const long c = start_of(v, d.channels), half = d.kernel / 2;
        const Finish finish(e, c, factor);
        const auto *slides = d.stride == 1 ? SLIDES<1> : SLIDES<2>;
        const long first = std::max(t * d.step - half, 0L);
        const long frames = std::min(t * d.step + half + 1, s.frames) - first;
        const float *tiles[3];
        const float *taps = d.taps + (v * d.kernel + first - t * d.step + half) * 9 * LANES;
        for (long i = 0; i < frames; i++) tiles[i] = tile(first + i, v);
        for (long h = top; h < bottom; h++) {
            Meeting m;
            for (long i = 0; i < frames; i++)
                for (long j = 0; j < 3; j++) {
                    const long from = h * d.stride + j - 1;
                    if (from < low || from >= high) continue;
                    m.row[m.count] = tiles[i] + (from - low) * line;
                    m.taps[m.count++] = taps + (i * 3 + j) * 3 * LANES;
                }
            const long at = (t * s.out_height + h) * s.out_width * d.channels + c;
            for (long w = 0; w < s.out_width; w += ALONG) {
                const long count = std::min(ALONG, s.out_width - w);
                slides[count - 1](m, w, finish, residual ? residual + at : nullptr, out + at,
                                  d.channels);
            }
        }
    }
};

}  // namespace

// Whether the processor is one whose registers the kernels are written for: AVX-512's or AVX2's.
extern "C" long suits() {
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
    return 1;
#else
    return 0;
#endif
}

// A convolution of points: every `step`-th frame, `down`-th row and `along`-th pixel of x, which has
// `pixel` channels, of which `inputs` are read.
extern "C" void pointwise(long inputs, long filters, const float *weight, long step, long down,
                          long along, const float *scale, const float *bias, long relu,
                          long columns, long factors, const long *factor, long samples,
                          long frames, long height, long width, long pixel, const Map *x,
                          const float *gates, const Map *residual, Map *out, long threads) {
    const Pointwise p{inputs, filters, weight};
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    const Clip clip(samples, frames, height, width, pixel, step, down, along);
    const Lines s(clip, step, down, along);
    const long lines = samples * s.frames * s.rows;
    const long share = lines * s.pixels / (4 * threads) / PIXELS * PIXELS;
    const long group = std::clamp(share, LEAST, MOST);
    // The last group of a line takes what is left over: none is smaller than a block of pixels.
    const long groups = std::max(s.pixels / group, 1L);
#pragma omp parallel for num_threads(threads)
    for (long unit = 0; unit < lines * groups; unit++) {
        const long line = unit / groups, first = unit % groups * group;
        const long last = unit % groups == groups - 1 ? s.pixels : first + group;
        const long n = line / s.rows / s.frames;
        const Map *from = x + n * frames * height * width * pixel +
                            line / s.rows % s.frames * s.frame_pitch +
                            line % s.rows * s.row_pitch + first * s.pixel_pitch;
        const long at = (line * s.pixels + first) * p.filters;
        panels(p, e, from, s.pixel_pitch, last - first, e.factor_of(n),
               residual ? residual + at : nullptr, out + at, InMaps{p.filters});
    }
}

namespace {

void run(const Pointwise *expander, const Epilogue *expander_epilogue, const Depthwise &d,
         const Epilogue &e, const Clip &s, const Map *x, const Map *residual, Map *out,
         long threads) {
    const long of_row = d.kernel * vectors_of(d.channels) * (s.width + 2) * LANES;
    const long rows = std::clamp(RING / of_row / d.stride, 1L, s.out_height);
    const long strips = (s.out_height + rows - 1) / rows;
    const long wanted = (threads + s.samples * strips - 1) / (s.samples * strips);
    const long parts = std::min(wanted, s.out_frames);
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<float> memory;
        static thread_local std::vector<long> place;
        memory.resize(std::max<size_t>(memory.size(), of_row * (rows * d.stride + 2) + LANES));
        // From the beginning of a cache line on.
        const size_t start = reinterpret_cast<size_t>(memory.data()) / 4 % LANES;
        float *ring = memory.data() + (LANES - start) % LANES;
#pragma omp for schedule(dynamic)
        for (long unit = 0; unit < s.samples * strips * parts; unit++) {
            const long n = unit / parts / strips, top = unit / parts % strips * rows;
            const long part = unit % parts;
            const long to = n * s.out_frames * s.out_height * s.out_width * d.channels;
            const Expansion expansion{expander, expander_epilogue,
                                      expander ? expander_epilogue->factor_of(n) : 1,
                                      place};
            const Strip strip{d, e, s, x + n * s.frames * s.height * s.width * s.pixel,
                              residual ? residual + to : nullptr, out + to, ring,
                              top, std::min(top + rows, s.out_height),
                              e.factor_of(n), expander ? &expansion : nullptr};
            strip.run(part * s.out_frames / parts, (part + 1) * s.out_frames / parts);
        }
    }
}

}  // namespace

// A depthwise convolution of `kernel` x 3 x 3, at every `step`-th frame.
extern "C" void depthwise(long channels, long kernel, const float *taps, long step, long stride,
                          const float *scale, const float *bias, long relu, long columns,
                          long factors, const long *factor, long samples, long frames, long height,
                          long width, long pixel, const Map *x, const float *gates,
                          const Map *residual, Map *out, long threads) {
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    const Clip s(samples, frames, height, width, pixel, step, stride, stride);
    run(nullptr, nullptr, {channels, kernel, step, stride, taps}, e, s, x, residual, out, threads);
}

// The pointwise convolution of x, and the depthwise one of that, which is never written as a whole.
extern "C" void expand(long inputs, long filters, const float *weight, const float *first_scale,
                       const float *first_bias, long first_relu, long first_columns,
                       long first_factors, const long *first_factor, long channels, long kernel,
                       const float *taps, long step, long stride, const float *scale,
                       const float *bias, long relu, long columns, long factors,
                       const long *factor, long samples, long frames, long height, long width,
                       long pixel, const Map *x, const float *first_gates, const float *gates,
                       Map *out, long threads) {
    const Pointwise p{inputs, filters, weight};
    const Epilogue before{first_scale,   first_bias,    first_relu,  first_gates,
                          first_columns, first_factors, first_factor};
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    const Clip s(samples, frames, height, width, pixel, step, stride, stride);
    run(&p, &before, {channels, kernel, step, stride, taps}, e, s, x, nullptr, out, threads);
}
