// A convolution without groups of some pixels, and what follows it: see convolutions.cpp.

namespace {

// Vectors of filters that share a load of the input, whose weights lie side by side, and pixels
// that share a load of the weights: their sums stay in registers, of which AVX-512 has more. So many
// weights stay in the core's own cache while all pixels meet them; for one vector in the first one.
#if defined(__AVX512F__) || defined(MANY_REGISTERS)  // the latter for tests elsewhere
constexpr long VECTORS = 3, PIXELS = 8, WEIGHTS = 1 << 17;
#else
constexpr long VECTORS = 1, PIXELS = 6, WEIGHTS = 5120;
#endif

// What meets x in one instruction: a number of each filter, or of bfloat16 two, the first in the
// lower half.
#ifdef BFLOAT16
typedef uint32_t Weight;
constexpr long STEP = 2;
#else
typedef float Weight;
constexpr long STEP = 1;
#endif

// A filter is `runs` times `run` numbers; those of a run meet numbers of x that lie side by side,
// STEP at a time, of which the last may meet nothing.
struct Filters {
    long count, runs, run;
    const Weight *weight;  // panels of VECTORS vectors or fewer, each (steps, vectors, 16)

    long steps() const { return (run + STEP - 1) / STEP; }
};

// Pixels, by where they begin in x and in the output, and the runs of a filter that meet them.
struct Meeting {
    const Map *x;
    const long *from, *to;  // filled up to whole groups of PIXELS with the last one
    long pixels;
    const long *offset;  // of each run from a pixel's beginning
    long first, last;
};

inline void fill_up(std::vector<long> &places) {
    const size_t whole = (places.size() + PIXELS - 1) / PIXELS * PIXELS;
    if (whole) places.resize(whole, places.back());
}

inline float ahead(const float *x) { return *x; }

inline uint32_t ahead(const uint16_t *x) {
    uint32_t two;
    __builtin_memcpy(&two, x, 4);
    return two;
}

inline Sixteen met(Sixteen sum, const float *weight, float x) { return sum + take(weight) * x; }

inline Sixteen met(Sixteen sum, const uint32_t *weight, uint32_t x) {
#ifdef __AVX512BF16__
    return (Sixteen)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(weight),
                                     (__m512bh)_mm512_set1_epi32(x));
#else
    uint32_t low[LANES], high[LANES];
#pragma GCC unroll 16
    for (long i = 0; i < LANES; i++) low[i] = weight[i] << 16, high[i] = weight[i] & 0xffff0000;
    sum += take((const float *)high) * number(uint16_t(x >> 16));
    return sum + take((const float *)low) * number(uint16_t(x));
#endif
}

// Adds what some runs give to the sums of some pixels, or ends them.
template <int COUNT, int WIDE, typename Out>
void multiply(const Meeting &m, long pixel, long low, long high, long run, const Weight *weight,
              float *sums, bool begin, const Finish *finish, const long *channel, long channels,
              const Map *residual, Out *out) {
    const long *from = m.from + pixel, *to = m.to + pixel;
    Sixteen sum[COUNT][WIDE] = {};
    if (!begin)
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++)
#pragma GCC unroll 4
            for (long v = 0; v < WIDE; v++) sum[i][v] = take(sums + (i * WIDE + v) * LANES);
    for (long r = low; r < high; r++) {
        const Map *x[COUNT], *at = m.x + m.offset[r];
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++) x[i] = at + from[i];
        const auto meet = [&](const auto &of) {
#pragma GCC unroll 8
            for (long i = 0; i < COUNT; i++)
#pragma GCC unroll 4
                for (long v = 0; v < WIDE; v++)
                    sum[i][v] = met(sum[i][v], weight + v * LANES, of(x[i]));
            weight += WIDE * LANES;
        };
        long k = 0;
        for (; k + STEP <= run; k += STEP) meet([k](const Map *x) { return ahead(x + k); });
        if (k < run) meet([k](const Map *x) { return Weight(x[k]); });
    }
    if (!finish) {
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++)
#pragma GCC unroll 4
            for (long v = 0; v < WIDE; v++) put(sums + (i * WIDE + v) * LANES, sum[i][v]);
        return;
    }
#pragma GCC unroll 4
    for (long v = 0; v < WIDE; v++) {
        // A copy: what is written could be it, for all that the compiler knows.
        const Finish own = finish[v];
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++) {
            const long at = to[i] + channel[v];
            const Map *other = residual ? residual + at : nullptr;
            if (channels < LANES)
                own.write_some(sum[i][v], other, out + at, channels);
            else
                own.write(sum[i][v], other, out + at);
        }
    }
}

// The sums of a meeting. Into tiles of 16 channels, `plane` numbers from one to the next, or maps.
template <typename Out>
struct Direct {
    const Filters &f;
    const Epilogue &e;
    const float factor;
    const Meeting &m;
    const Map *residual;
    Out *out;
    const long plane;
    std::vector<float> &kept;

    void make(long first, long last) const {
        const long vectors = vectors_of(f.count), steps = f.runs * f.steps();
        for (long v = first; v < last; v += VECTORS) {
            const long wide = std::min(VECTORS, vectors - v);
            const Weight *weight = f.weight + v * steps * LANES;
            if (wide == VECTORS)
                panel<VECTORS>(v, weight);
            else if (wide == 2)
                panel<std::min(2L, VECTORS)>(v, weight);
            else
                panel<1>(v, weight);
        }
    }

    // Some runs after the others, so that their weights stay at hand.
    template <int WIDE>
    void panel(long vector, const Weight *weight) const {
        const Finish finish[3] = {of(vector), of(vector + (WIDE > 1)), of(vector + (WIDE > 2) * 2)};
        const long channel[3] = {at(vector), at(vector + 1), at(vector + 2)};
        const long of_run = f.steps() * WIDE * LANES, most = std::max(WEIGHTS / of_run, 1L);
        const long parts = std::max((m.last - m.first + most - 1) / most, 1L);
        constexpr long SUMS = PIXELS * WIDE * LANES;
        if (parts > 1)
            kept.resize(std::max<size_t>(kept.size(), (m.pixels + PIXELS) / PIXELS * SUMS));
        for (long part = 0; part < parts; part++) {
            const long low = m.first + (m.last - m.first) * part / parts;
            const long high = m.first + (m.last - m.first) * (part + 1) / parts;
            const Weight *from = weight + low * of_run;
            const Finish *ends = part == parts - 1 ? finish : nullptr;
            float *sums = kept.data();
            for (long i = 0; i < m.pixels; i += PIXELS, sums += SUMS) {
                const auto some = m.pixels - i > PIXELS / 2 ? multiply<PIXELS, WIDE, Out>
                                                            : multiply<PIXELS / 2, WIDE, Out>;
                some(m, i, low, high, f.run, from, sums, !part, ends, channel,
                     plane ? LANES : f.count, residual, out);
            }
        }
    }

    long at(long vector) const { return plane ? vector * plane : start_of(vector, f.count); }
    Finish of(long vector) const { return {e, start_of(vector, f.count), factor}; }
};

}  // namespace
