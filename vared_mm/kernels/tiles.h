// What a strip of rows is rebuilt from, and the sums that are written into it: see rebuild.cpp.

#include <algorithm>
#include <vector>

namespace {

// A strip of rows, and what it is rebuilt from, stays in a core's own cache: this many floats.
constexpr long STRIP = 1 << 17;

struct Size {
    long frames, height, width;
    long channel, pixel;  // numbers from one of y to the next

    bool in_planes() const { return channel != 1; }
};

constexpr long MOST_PATHS = 4;

// Pixels of a row that share loads, as many as leave registers for a kernel of 3 x 3.
constexpr long TOGETHER = WIDEST == 16 ? 8 : 4;

struct Path {
    long gate;         // its column in a sample's gates
    long scale;        // k_i, or R_j
    const float *phi;  // (taps, C - k_i), or (R_j - 1, taps, C); null where nothing is rebuilt
};

struct Layer {
    long channels, side, relu;
    const float *scale, *bias;                   // (C,)
    Path channel[MOST_PATHS], time[MOST_PATHS];  // the open ones, the most computed first
    long channel_paths, time_paths;
    std::vector<std::vector<float>> memory;      // what Φ of the paths point to

    const float *keep(std::vector<float> phi) {
        memory.push_back(std::move(phi));
        return memory.back().data();
    }
};

// (parts, channels, taps) as torch keeps Φ, its taps before the channels, along which it is read.
std::vector<float> taps_first(const float *phi, long parts, long channels, long taps) {
    std::vector<float> turned(parts * channels * taps);
    float *to = turned.data();
    for (long part = 0; part < parts; part++, phi += channels * taps)
        for (long k = 0; k < taps; k++)
            for (long c = 0; c < channels; c++) *to++ = phi[c * taps + k];
    return turned;
}

// Where the first row begins of a map or of a tile, and numbers from pixel to pixel and from row to
// row.
template <typename T>
struct Rows {
    T *at;
    long pixel, line;
};
using InTile = Rows<float>;
using InMap = Rows<Map>;

// A depthwise convolution of a tile, which begins where the kernel's corner meets the first pixel.
struct Term {
    InTile tile;
    const float *phi;
    long pitch;  // floats from one tap to the next
    float gate;
};

// The same LANES channels of all pixels of some rows:
//     activate( base + weight * from + factor * terms + residual )
template <int LANES>
struct Sum {
    Lanes<LANES> factor{}, base{}, weight{};
    InTile from{};  // nothing without it
    InMap own{};    // or this
    Term terms[MOST_PATHS] = {};
    long count = 0;

    // `residual` lies as `out` does. What some of the terms come to waits in `between`.
    template <typename T>
    void write(const Rows<T> &out, const InTile &between, long side, long rows, long width,
               const Map *residual, bool relu) {
        static float zeros[LANES] = {};
        if (!from.at) from = {zeros, 0, 0};
        for (long i = 0; i < count - 1; i++) {
            add_term(between, &terms[i], side, rows, width, nullptr, false);
            // What there is so far is added to.
            from = between, own = {}, weight = Lanes<LANES>{} + 1, base = Lanes<LANES>{};
        }
        add_term(out, count ? &terms[count - 1] : nullptr, side, rows, width, residual, relu);
    }

    template <typename T>
    void add_term(const Rows<T> &out, const Term *term, long side, long rows, long width,
                  const Map *residual, bool relu) const {
        own.at ? add_to(own, out, term, side, rows, width, residual, relu)
               : add_to(from, out, term, side, rows, width, residual, relu);
    }

    template <typename S, typename T>
    void add_to(const Rows<S> &start, const Rows<T> &out, const Term *term, long side, long rows,
                long width, const Map *residual, bool relu) const {
        if (!term) return add<0>(start, out, {}, rows, width, residual, relu);
        const auto add_one = side == 1   ? &Sum::add<1, S, T>
                             : side == 3 ? &Sum::add<3, S, T>
                             : side == 5 ? &Sum::add<5, S, T>
                                         : &Sum::add<7, S, T>;
        (this->*add_one)(start, out, *term, rows, width, residual, relu);
    }

    template <int SIDE, typename S, typename T>
    void add(const Rows<S> &start, const Rows<T> &out, const Term &term, long rows, long width,
             const Map *residual, bool relu) const {
        // Copies, which no store could change: they stay in registers.
        const Lanes<LANES> first = base, times = weight;
        Lanes<LANES> kernel[SIDE * SIDE + 1];
        for (long k = 0; k < SIDE * SIDE; k++)
            kernel[k] = load<LANES>(term.phi + k * term.pitch) * (factor * term.gate);
        const long line = term.tile.line;
        for (long h = 0; h < rows; h++) {
            const S *here = start.at + h * start.line;
            const float *tile = term.tile.at + h * line;
            const Map *other = residual ? residual + h * out.line : nullptr;
            T *to = out.at + h * out.line;
            const auto make = [&](auto count, long w) {
                constexpr long COUNT = count;
                Lanes<LANES> sum[COUNT];
#pragma GCC unroll 8
                for (long i = 0; i < COUNT; i++)
                    sum[i] = first + times * load<LANES>(here + (w + i) * start.pixel);
#pragma GCC unroll 7
                for (long y = 0; y < SIDE; y++)
#pragma GCC unroll 16
                    for (long j = 0; j < COUNT + SIDE - 1; j++) {
                        const auto at = held<LANES>(load<LANES>(tile + y * line + (w + j) * LANES));
#pragma GCC unroll 8
                        for (long i = 0; i < COUNT; i++)
                            if (i <= j && j < i + SIDE) sum[i] += kernel[y * SIDE + j - i] * at;
                    }
#pragma GCC unroll 8
                for (long i = 0; i < COUNT; i++) {
                    if (other) sum[i] += load<LANES>(other + (w + i) * out.pixel);
                    if (relu) sum[i] = sum[i] < 0 ? Lanes<LANES>{} : sum[i];
                    store<LANES>(to + (w + i) * out.pixel, sum[i]);
                }
            };
            long w = 0;
            if constexpr (SIDE == 3 && LANES == WIDEST)
                for (; w + TOGETHER <= width; w += TOGETHER)
                    make(std::integral_constant<long, TOGETHER>{}, w);
            for (; w < width; w++) make(std::integral_constant<long, 1>{}, w);
        }
    }
};

// Between planes, `pitch` numbers apart, and pixels whose LANES channels lie side by side.
template <int LANES>
void from_planes(const Map *planes, long pitch, long pixels, float *to) {
    for (long i = 0; i < LANES; i++)
        for (long w = 0; w < pixels; w++) to[w * LANES + i] = number(planes[i * pitch + w]);
}

template <int LANES>
void to_planes(const float *from, long pixels, Map *planes, long pitch) {
    for (long i = 0; i < LANES; i++)
        for (long w = 0; w < pixels; w++)
            store<1>(planes + i * pitch + w, Lanes<1>{from[w * LANES + i]});
}

// Some rows of a period of frames: the computed ones that they are made of, and their own.
struct Block {
    const Map *y, *residual;
    Map *out;
    long frames, top, bottom;
};

// Copies of a few channels of a block, side by side in memory and in a frame of zeros. A chunk of
// channels finds what another one left.
struct Tile {
    float *at;
    long lanes, top, channel;  // what it holds
};

struct Tiles {
    long half, width, rows;  // of a tile, the frame left out
    long of_frame;           // as many belong to each computed frame
    float *waiting;          // where rows wait for more terms, or to be written in planes
    std::vector<Tile> tiles;

    static long floats(long half, long width, long rows) {
        return (rows + 4 * half) * (width + 2 * half) * 16;
    }

    void forget() {
        for (Tile &tile : tiles) tile.channel = -1;
    }

    // Where row `row` begins; with `corner`, where a kernel begins whose centre is there.
    InTile at(const Tile &tile, long row, bool corner) const {
        const long line = (width + 2 * half) * tile.lanes;
        const long down = row - tile.top + 2 * half - (corner ? half : 0);
        return {tile.at + down * line + (corner ? 0 : half * tile.lanes), tile.lanes, line};
    }

    // Whether the tile has to be filled.
    bool lacks(Tile &tile, long lanes, long top, long channel) {
        if (tile.lanes == lanes && tile.top == top && tile.channel == channel) return false;
        if (tile.lanes != lanes || tile.top != top)
            std::fill(tile.at, tile.at + floats(half, width, rows), 0.f);
        tile.lanes = lanes, tile.top = top, tile.channel = channel;
        return true;
    }
};

}  // namespace
