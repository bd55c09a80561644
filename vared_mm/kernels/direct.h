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

// Pixels, by where they begin in x and in the output, and the runs of a filter that meet them: those
// in the padding meet none.
struct Meeting {
    std::vector<long> from, to;     // filled up to whole groups of PIXELS with the last cell's
    long pixels = 0;
    std::vector<long> run, offset;  // which ones, in order, and where in x from a pixel's beginning

    void clear() { from.clear(), to.clear(), run.clear(), offset.clear(), pixels = 0; }

    void meets(long which, long at) { run.push_back(which), offset.push_back(at); }

    void add(long in, long out) { from.push_back(in), to.push_back(out), pixels++; }

    void fill_up() {
        for (long i = pixels; i < groups() * PIXELS; i++) {
            const long like = std::max(i - PER_CELL, 0L);
            from.push_back(from[like]), to.push_back(to[like]);
        }
    }

    long groups() const { return (pixels + PIXELS - 1) / PIXELS; }
};

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
void multiply(const Meeting &m, const Map *in, long pixel, long low, long high, const Filters &f,
              const Weight *weights, float *sums, bool begin, const Finish *finish,
              const long *channel, long channels, const Map *residual, Out *out) {
    const long *from = m.from.data() + pixel, *to = m.to.data() + pixel;
    const long run = f.run, of_run = f.steps() * WIDE * LANES;
    Sixteen sum[COUNT][WIDE] = {};
    if (!begin)
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++)
#pragma GCC unroll 4
            for (long v = 0; v < WIDE; v++) sum[i][v] = take(sums + (i * WIDE + v) * LANES);
    for (long r = low; r < high; r++) {
        const Map *x[COUNT], *at = in + m.offset[r];
        const Weight *weight = weights + m.run[r] * of_run;
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
        if constexpr (std::is_same_v<Out, Map>) {
#pragma GCC unroll 8
            for (long i = 0; i < COUNT; i++) {
                const long at = to[i] + channel[v];
                const Map *other = residual ? residual + at : nullptr;
                if (channels < LANES)
                    own.write_some(sum[i][v], other, out + at, channels);
                else
                    own.write(sum[i][v], other, out + at);
            }
        } else {
#pragma GCC unroll 8
            for (long i = 0; i < COUNT; i += PER_CELL)
                put_cell(out + to[i] + channel[v], own.of(sum[i][v]),
                         own.of(sum[i + PER_CELL - 1][v]));
        }
    }
}

// The sums of meetings. Into tiles of 16 channels, `plane` numbers from one to the next, or maps.
template <typename Out>
struct Direct {
    const Filters &f;
    const Epilogue &e;
    const float factor;
    const Meeting *first_meeting, *last_meeting;
    const Map *x, *residual;
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
        const long most = std::max(WEIGHTS / (f.steps() * WIDE * LANES), 1L);
        const long parts = std::max((f.runs + most - 1) / most, 1L);
        constexpr long SUMS = PIXELS * WIDE * LANES;
        if (parts > 1) {
            long groups = 0;
            for (auto m = first_meeting; m < last_meeting; m++) groups += m->groups();
            kept.resize(std::max<size_t>(kept.size(), groups * SUMS));
        }
        for (long part = 0; part < parts; part++) {
            float *sums = kept.data();
            for (auto m = first_meeting; m < last_meeting; m++) {
                const long runs = m->run.size(), low = before(*m, f.runs * part / parts);
                const long high = before(*m, f.runs * (part + 1) / parts);
                if (low == high && (runs || part)) {
                    sums += m->groups() * SUMS;
                    continue;
                }
                const Finish *ends = high == runs ? finish : nullptr;
                for (long i = 0; i < m->pixels; i += PIXELS, sums += SUMS) {
                    const auto some = m->pixels - i > PIXELS / 2 ? multiply<PIXELS, WIDE, Out>
                                                                 : multiply<PIXELS / 2, WIDE, Out>;
                    some(*m, x, i, low, high, f, weight, sums, !low, ends, channel,
                         plane ? LANES : f.count, residual, out);
                }
            }
        }
    }

    // How many of its runs come before one.
    static long before(const Meeting &m, long run) {
        return std::lower_bound(m.run.begin(), m.run.end(), run) - m.run.begin();
    }

    long at(long vector) const { return plane ? vector * plane : start_of(vector, f.count); }
    Finish of(long vector) const { return {e, start_of(vector, f.count), factor}; }
};

}  // namespace
