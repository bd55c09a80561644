// A pointwise convolution of some pixels, and what follows it: see convolutions.cpp.

namespace {

// Vectors of filters whose weights lie side by side.
constexpr long VECTORS = 3;
// Pixels that share a load of the weights, and vectors of filters that share one of the input: their
// sums stay in registers, of which AVX-512 has more. With half as many, the fewer filters the better:
// their weights are read again for all pixels, and stay in the core's first cache.
#ifdef __AVX512F__
constexpr long PIXELS = 8, TOGETHER = VECTORS;
#else
constexpr long PIXELS = 6, TOGETHER = 1;
#endif
// Pixels whose input stays in the core's own cache while all filters meet it, at most and at least.
constexpr long MOST = 64, LEAST = 16;
// The frames that a depthwise convolution reads stay there too: this many floats.
constexpr long RING = 1 << 18;

struct Pointwise {
    long inputs, filters;
    const float *weight;  // panels of three vectors and a smaller rest, each (inputs, vectors, 16)
};

// Maps that a convolution reads, and those it makes.
struct Clip {
    long samples, frames, height, width, pixel;  // numbers of x from one pixel to the next
    long out_frames, out_height, out_width;

    // Each dimension is padded by as much as the kernel reaches beyond the pixel in its middle.
    Clip(long samples, long frames, long height, long width, long pixel, long step, long down,
         long along)
        : samples(samples), frames(frames), height(height), width(width), pixel(pixel),
          out_frames((frames - 1) / step + 1), out_height((height - 1) / down + 1),
          out_width((width - 1) / along + 1) {}
};

// Output pixels in the longest lines along which neighbours are as far apart in x, in numbers.
struct Lines {
    long frames, rows, pixels;
    long frame_pitch, row_pitch, pixel_pitch;

    Lines(const Clip &s, long step, long down, long along)
        : frames(s.out_frames), rows(s.out_height), pixels(s.out_width),
          frame_pitch(step * s.height * s.width * s.pixel), row_pitch(down * s.width * s.pixel),
          pixel_pitch(along * s.pixel) {
        if (down > 1 || along > 1) return;
        pixels *= rows, rows = 1;
        if (step == 1) pixels *= frames, frames = 1;
    }
};

// Where the sum of a pixel and a vector of filters goes: into maps, or into tiles of 16 channels.
struct InMaps {
    long filters;
    long operator()(long pixel, long v) const { return pixel * filters + start_of(v, filters); }
};

struct InTiles {
    const long *place;  // of each pixel
    long plane;         // from one vector's tile to the next one's
    long operator()(long pixel, long v) const { return place[pixel] + v * plane; }
};

template <int COUNT, int WIDE, class To, typename Out>
void multiply(const Pointwise &p, const Epilogue &e, const Map *x, long pitch, const float *weight,
              long row, long vector, float factor, const Map *residual, Out *out, const To &to,
              long first) {
    Sixteen sum[COUNT][WIDE] = {};
    for (long k = 0; k < p.inputs; k++, weight += row)
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++)
#pragma GCC unroll 4
            for (long v = 0; v < WIDE; v++)
                sum[i][v] += take(weight + v * LANES) * number(x[(first + i) * pitch + k]);
#pragma GCC unroll 4
    for (long v = 0; v < WIDE; v++) {
        const Finish finish(e, start_of(vector + v, p.filters), factor);
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++) {
            const long at = to(first + i, vector + v);
            finish.write(sum[i][v], residual ? residual + at : nullptr, out + at);
        }
    }
}

// Filters of one panel at some pixels; `row` is from one input's weights to the next one's. The last
// pixels are taken together with some before them.
template <int WIDE, class To, typename Out>
void panel(const Pointwise &p, const Epilogue &e, const Map *x, long pitch, long pixels,
           const float *weight, long row, long vector, float factor, const Map *residual, Out *out,
           const To &to) {
    const bool few = pixels < PIXELS;
    const auto make = few ? multiply<1, WIDE, To, Out> : multiply<PIXELS, WIDE, To, Out>;
    const long count = few ? 1 : PIXELS;
    for (long i = 0; i < pixels; i += count)
        make(p, e, x, pitch, weight, row, vector, factor, residual, out, to,
             std::min(i, pixels - count));
}

// All filters.
template <class To, typename Out>
void panels(const Pointwise &p, const Epilogue &e, const Map *x, long pitch, long pixels,
            float factor, const Map *residual, Out *out, const To &to) {
    const long vectors = vectors_of(p.filters);
    for (long v = 0; v < vectors; v += TOGETHER) {
        const long begin = v / VECTORS * VECTORS, beside = std::min(VECTORS, vectors - begin);
        const float *weight = p.weight + (begin * p.inputs + v - begin) * LANES;
        const long wide = std::min(TOGETHER, vectors - v);
        const auto make = wide == 3   ? panel<3, To, Out>
                          : wide == 2 ? panel<2, To, Out>
                                      : panel<1, To, Out>;
        make(p, e, x, pitch, pixels, weight, beside * LANES, v, factor, residual, out, to);
    }
}

}  // namespace
