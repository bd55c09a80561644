// What a strip of rows is rebuilt from, and the sums that are written into it: see rebuild.cpp.

#include <algorithm>
#include <vector>

namespace {

// A strip of rows, and what it is rebuilt from, stays in a core's own cache: this many floats.
constexpr long STRIP = 1 << 17;

struct Size {
    long frames, height, width;
    long channel, pixel;  // floats from one of y to the next

    bool in_planes() const { return channel != 1; }
};

constexpr long MOST_PATHS = 4;

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

// Where the first row of a map begins, and floats from pixel to pixel and from row to row.
struct Rows {
    float *at;
    long pixel, line;
};

// A depthwise convolution of a tile, which begins where the kernel's corner meets the first pixel.
struct Term {
    Rows tile;
    const float *phi;
    long pitch;  // floats from one tap to the next
    float gate;
};

// The same LANES channels of all pixels of some rows:
//     activate( base + weight * from + factor * terms + residual )
template <int LANES>
struct Sum {
    Lanes<LANES> factor{}, base{}, weight{};
    Rows from{};  // nothing without it
    Term terms[MOST_PATHS] = {};
    long count = 0;

    // `residual` lies as `out` does.
    void write(const Rows &out, long side, long rows, long width, const float *residual,
               bool relu) {
        static const float zeros[LANES] = {};
        if (!from.at) from = {const_cast<float *>(zeros), 0, 0};
        const auto add_term = side == 1   ? &Sum::add<1>
                              : side == 3 ? &Sum::add<3>
                              : side == 5 ? &Sum::add<5>
                                          : &Sum::add<7>;
        if (!count) add<0>(out, {}, rows, width, residual, relu);
        for (long i = 0; i < count; i++) {
            const bool last = i == count - 1;
            (this->*add_term)(out, terms[i], rows, width, last ? residual : nullptr, last && relu);
            // What there is so far is added to.
            from = out, weight = Lanes<LANES>{} + 1, base = Lanes<LANES>{};
        }
    }

    template <int SIDE>
    void add(const Rows &out, const Term &term, long rows, long width, const float *residual,
             bool relu) const {
        // Copies, which no store could change: they stay in registers.
        const Lanes<LANES> first = base, times = weight;
        Lanes<LANES> kernel[SIDE * SIDE + 1];
        for (long k = 0; k < SIDE * SIDE; k++)
            kernel[k] = lanes<LANES>(term.phi + k * term.pitch) * (factor * term.gate);
        const long line = term.tile.line;
        for (long h = 0; h < rows; h++) {
            const float *here = from.at + h * from.line, *tile = term.tile.at + h * line;
            const float *other = residual ? residual + h * out.line : nullptr;
            float *to = out.at + h * out.line;
            for (long w = 0; w < width; w++) {
                Lanes<LANES> sum = first + times * lanes<LANES>(here + w * from.pixel);
                for (long y = 0; y < SIDE; y++)
                    for (long x = 0; x < SIDE; x++)
                        sum += kernel[y * SIDE + x] *
                               lanes<LANES>(tile + y * line + (w + x) * LANES);
                if (other) sum += lanes<LANES>(other + w * out.pixel);
                if (relu) sum = sum < 0 ? Lanes<LANES>{} : sum;
                lanes<LANES>(to + w * out.pixel) = sum;
            }
        }
    }
};

// Between planes, `pitch` floats apart, and pixels whose LANES channels lie side by side.
template <int LANES>
void from_planes(const float *planes, long pitch, long pixels, float *to) {
    for (long i = 0; i < LANES; i++)
        for (long w = 0; w < pixels; w++) to[w * LANES + i] = planes[i * pitch + w];
}

template <int LANES>
void to_planes(const float *from, long pixels, float *planes, long pitch) {
    for (long i = 0; i < LANES; i++)
        for (long w = 0; w < pixels; w++) planes[i * pitch + w] = from[w * LANES + i];
}

// Some rows of a period of frames: the computed ones that they are made of, and their own.
struct Block {
    const float *y, *residual;
    float *out;
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
    float *turned;           // where rows wait that will be written in planes
    std::vector<Tile> tiles;

    static long floats(long half, long width, long rows) {
        return (rows + 4 * half) * (width + 2 * half) * 16;
    }

    void forget() {
        for (Tile &tile : tiles) tile.channel = -1;
    }

    // Where row `row` begins; with `corner`, where a kernel begins whose centre is there.
    Rows at(const Tile &tile, long row, bool corner) const {
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
