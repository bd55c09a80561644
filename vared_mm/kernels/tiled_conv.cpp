// `tiled_conv`: a convolution of bfloat16 maps, and what follows it, in one pass over the maps:
//
//     out = activate( factor · scale · conv(x) + bias + residual )
//
// Maps lie channels last, (N, T, H, W, C). A tile is 16 pixels by 16 filters, whose sums an
// instruction of AMX adds 32 products to. The 32 numbers of x that a pixel meets lie side by side:
// channels of one pixel, and on into the next ones that the kernel reads along a row. They are in x
// itself where the kernel reads no neighbours in the image, else in a copy of some frames and rows
// with zeros around, which stays in the core's own cache. What is read beyond is multiplied by zero:
// from a NaN or an infinite number, NaN may so come to neighbours, but to no other sample.

#include <cstring>
#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#ifdef __AMX_BF16__

#define tile_zero _tile_zero
#define tile_loadd _tile_loadd
#define tile_stream_loadd _tile_stream_loadd
#define tile_stored _tile_stored
#define tile_dpbf16ps _tile_dpbf16ps
#define tile_loadconfig _tile_loadconfig
#define tile_release _tile_release

#else

// The instructions as they are defined, for tests on processors that do not have them.
struct Tile {
    uint32_t words[16][16];
};
thread_local Tile tiles[8];

void tile_zero(int to) { tiles[to] = {}; }

void tile_loadd(int to, const void *from, long pitch) {
    for (long i = 0; i < 16; i++) memcpy(tiles[to].words[i], (const char *)from + i * pitch, 64);
}

void tile_stream_loadd(int to, const void *from, long pitch) { tile_loadd(to, from, pitch); }

void tile_stored(int from, void *to, long pitch) {
    for (long i = 0; i < 16; i++) memcpy((char *)to + i * pitch, tiles[from].words[i], 64);
}

// Adds to each sum the products of two pairs of halves: first those of the lower ones.
void tile_dpbf16ps(int to, int left, int right) {
    for (long i = 0; i < 16; i++)
        for (long k = 0; k < 16; k++)
            for (long j = 0; j < 16; j++) {
                const uint32_t a = tiles[left].words[i][k], b = tiles[right].words[k][j];
                float sum;
                memcpy(&sum, &tiles[to].words[i][j], 4);
                sum += number(uint16_t(a)) * number(uint16_t(b));
                sum += number(uint16_t(a >> 16)) * number(uint16_t(b >> 16));
                memcpy(&tiles[to].words[i][j], &sum, 4);
            }
}

void tile_loadconfig(const void *) {}
void tile_release() {}

#endif

// Numbers of one row of a tile; of the weights that meet them, for 16 filters.
constexpr long DEPTH = 32, PANEL = DEPTH * LANES;
// A copy has at most about so many numbers.
constexpr long COPY = 1 << 18;
// Pixels that are taken together where no copy is made.
constexpr long TOGETHER = 512;
// Of the weights so many numbers stay in that cache too, while all pixels of a part meet them.
constexpr long WEIGHTS = 1 << 19;

struct Conv : Moves {
    long filters;
    const uint16_t *weight;  // (vectors, steps, 16, 16, 2)

    long depths() const { return (row() + DEPTH - 1) / DEPTH; }
    long of_frame() const { return rows_of_frame() * depths(); }
    long steps() const { return kernel[0] * of_frame(); }
    bool flat() const { return stride[1] == 1 && stride[2] == 1; }
    bool needs_copy() const {
        return kernel[1] * kernel[2] > 1 || padding[1] || padding[2] || !flat() || row() < DEPTH ||
               from.pixels() < LANES;
    }
};

// Some of the output: frames, rows and vectors of filters.
struct Part : Window {
    long sample, first_vector, last_vector;
};

// Some vectors of filters, and of their steps those that meet a frame.
struct Filters {
    long first, last, low, high;
};

// Eight tiles of 16 rows of 64 bytes. Constant: GCC 12 does not know that all of it is read.
struct Settings {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) constexpr Settings SETTINGS;

// Sums of M times N tiles: 16 pixels each from `a` on, 16 filters each from `b` on.
template <int M, int N>
void multiply(const Map *const *a, long pitch, const long *offset, long steps, const uint16_t *b,
              long vector, float *sums, long line) {
    tile_zero(0);
    if (N > 1) tile_zero(1);
    if (M > 1) tile_zero(2);
    if (M > 1 && N > 1) tile_zero(3);
    for (long s = 0; s < steps; s++, b += PANEL) {
        tile_loadd(4, a[0] + offset[s], pitch);
        tile_stream_loadd(6, b, 64);
        tile_dpbf16ps(0, 4, 6);
        if (N > 1) {
            tile_stream_loadd(7, b + vector, 64);
            tile_dpbf16ps(1, 4, 7);
        }
        if (M > 1) {
            tile_loadd(5, a[1] + offset[s], pitch);
            tile_dpbf16ps(2, 5, 6);
            if (N > 1) tile_dpbf16ps(3, 5, 7);
        }
    }
    tile_stored(0, sums, 4 * line);
    if (N > 1) tile_stored(1, sums + LANES, 4 * line);
    if (M > 1) tile_stored(2, sums + LANES * line, 4 * line);
    if (M > 1 && N > 1) tile_stored(3, sums + LANES * line + LANES, 4 * line);
}

// What one thread works with.
struct Worker {
    const Conv &c;
    const Epilogue &e;
    const Map *x, *residual;
    Map *out;
    std::vector<Map> copy;
    std::vector<long> offset;  // of the numbers of each step from those of the first
    std::vector<long> place;   // of each pixel of a line in the output; -1 where there is none
    std::vector<float> sums;   // (32, filters of a part)

    void run(const Part &p) {
        const Map *sample = x + p.sample * c.of_sample();
        // What the last tile reads beyond is multiplied by nothing, or thrown away.
        const long beyond = (LANES * c.stride[2] + c.reach(2)) * c.inputs + DEPTH;
        const View v = c.needs_copy() ? c.copy(sample, p, beyond, copy)
                                      : View{sample, 0, c.from.pixels() * c.pixel,
                                             TOGETHER * c.pixel, c.pixel};
        find_offsets(v);
        const long most = std::max(WEIGHTS / (c.steps() * PANEL) / 2 * 2, 2L);
        for (long i = p.first_vector; i < p.last_vector; i += most)
            for (long t = p.first; t < p.last; t++)
                lines(p, v, t, i, std::min(i + most, p.last_vector));
    }

    void find_offsets(const View &v) {
        offset.clear();
        c.for_rows(v, [&](long at) {
            // The last begins early; what it reads again is multiplied by nothing.
            for (long k = 0; k < c.depths(); k++)
                offset.push_back(at + std::max(std::min(k * DEPTH, c.row() - DEPTH), 0L));
        });
    }

    // Frame t of a part, for some vectors of filters: one line where a step along the output is a
    // step along the input, else one for each row.
    void lines(const Part &p, const View &v, long t, long first, long last) {
        const long frame = t * c.stride[0] - c.padding[0];
        const auto [low, high] = c.there(0, t);
        const Filters f{first, last, low * c.of_frame(), high * c.of_frame()};
        const Map *at = v.at + (frame - v.first) * v.frame;
        const long image = (p.sample * c.to.frames + t) * c.to.pixels();
        if (!c.needs_copy()) {
            const long from = p.top * TOGETHER;
            const long count = std::min(p.bottom * TOGETHER, c.to.pixels()) - from;
            find_places(count, count, count);
            line(at + from * v.pixel, v, count, f, image + from, p.sample);
        } else if (c.flat()) {
            const long pitch = v.row / v.pixel, rows = p.bottom - p.top;
            const long count = (rows - 1) * pitch + c.to.width;
            find_places(count, pitch, c.to.width);
            line(at, v, count, f, image + p.top * c.to.width, p.sample);
        } else {
            find_places(c.to.width, c.to.width, c.to.width);
            for (long h = p.top; h < p.bottom; h++)
                line(at + (h - p.top) * c.stride[1] * v.row, v, c.to.width, f,
                     image + h * c.to.width, p.sample);
        }
    }

    // Of lines of `pitch` pixels the first `width` are there.
    void find_places(long count, long pitch, long width) {
        place.resize(std::max(count, LANES));
        std::fill(place.begin(), place.end(), -1);
        for (long i = 0, to = 0; i < count; i += pitch)
            for (long w = 0; w < width && i + w < count; w++) place[i + w] = to++;
    }

    void line(const Map *at, const View &v, long count, const Filters &f, long pixel,
              long sample) {
        const long step = c.stride[2] * v.pixel, steps = f.high - f.low;
        const long number = (count + LANES - 1) / LANES, wide = (f.last - f.first) * LANES;
        const long of_vector = c.steps() * PANEL;
        sums.resize(std::max<size_t>(sums.size(), 2 * LANES * wide));
        for (long i = 0; i < number; i += 2) {
            // The last tile begins early, and makes some pixels a second time.
            const long most = std::max(count - LANES, 0L);
            const long first[2] = {std::min(i * LANES, most), std::min((i + 1) * LANES, most)};
            const Map *a[2] = {at + first[0] * step, at + first[1] * step};
            const bool both = i + 1 < number;
            for (long j = f.first; j < f.last; j += 2) {
                const bool two = j + 1 < f.last;
                const auto make = both ? (two ? multiply<2, 2> : multiply<2, 1>)
                                       : (two ? multiply<1, 2> : multiply<1, 1>);
                make(a, 2 * step, offset.data() + f.low, steps,
                     c.weight + j * of_vector + f.low * PANEL, of_vector,
                     sums.data() + (j - f.first) * LANES, wide);
            }
            for (long m = 0; m < (both ? 2 : 1); m++)
                write(sums.data() + m * LANES * wide, f, first[m], pixel, sample);
        }
    }

    // The pixels of a tile, with some vectors of filters.
    void write(const float *sums, const Filters &f, long first, long pixel, long sample) const {
        const float factor = e.factor_of(sample);
        for (long j = f.first; j < f.last; j++, sums += LANES) {
            const long channel = start_of(j, c.filters), wide = (f.last - f.first) * LANES;
            const Finish finish(e, channel, factor);
            for (long i = 0; i < LANES; i++) {
                if (place[first + i] < 0) continue;
                const long at = (pixel + place[first + i]) * c.filters + channel;
                finish.write(take(sums + i * wide), residual ? residual + at : nullptr,
                             out + at);
            }
        }
    }
};

}  // namespace

// Whether the processor has tiles, and the system lets this process use them.
extern "C" long suits() {
#ifdef __AMX_BF16__
    constexpr long REQUEST = 0x1023, TILES = 18;
    static const bool granted = !syscall(SYS_arch_prctl, REQUEST, TILES);
    return granted;
#else
    return 0;
#endif
}

extern "C" void tiled_conv(long inputs, long filters, const void *weight, const long *kernel,
                           const long *stride, const long *padding, const long *dilation,
                           const float *scale, const float *bias, long relu, long columns,
                           long factors, const long *factor, long samples, const long *from,
                           const long *to, long pixel, const Map *x, const float *gates,
                           const Map *residual, Map *out, long threads) {
    const Conv c{{inputs, pixel, kernel, stride, padding, dilation,
                  {from[0], from[1], from[2]}, {to[0], to[1], to[2]}},
                 filters, (const uint16_t *)weight};
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    // How many frames and rows a part has; fewer of the latter only where frames are too large.
    const long height = c.needs_copy() ? c.to.height : std::max(c.to.pixels() / TOGETHER, 1L);
    long frames = c.to.frames, rows = height;
    if (c.needs_copy()) {
        c.part(frames, rows, COPY);
    } else {
        rows = 1;
    }
    const long of_time = (c.to.frames + frames - 1) / frames, of_rows = (height + rows - 1) / rows;
    const long vectors = vectors_of(filters), units = samples * of_time * of_rows;
    long parts = 1;
    while (parts < vectors / 2 && units * parts < 4 * threads && units * parts % threads) parts++;
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<Map> memory;
        Worker worker{c, e, x, residual, out, std::move(memory), {}, {}, {}};
        tile_loadconfig(&SETTINGS);
#pragma omp for schedule(dynamic)
        for (long unit = 0; unit < units * parts; unit++) {
            const long part = unit % parts, piece = unit / parts, row = piece % of_rows * rows;
            const long time = piece / of_rows % of_time * frames, pairs = (vectors + 1) / 2;
            const bool last = row + rows >= height;
            worker.run({{time, std::min(time + frames, c.to.frames), row,
                         last && !c.needs_copy() ? c.to.pixels() : std::min(row + rows, height)},
                        piece / of_rows / of_time,
                        std::min(part * pairs / parts * 2, vectors),
                        std::min((part + 1) * pairs / parts * 2, vectors)});
        }
        tile_release();
        memory = std::move(worker.copy);
    }
}
