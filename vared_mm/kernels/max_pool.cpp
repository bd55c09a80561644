// `max_pool`: torch's, which takes several times as long over maps that lie channels last.

#include <algorithm>
#include <vector>

namespace {

constexpr long LANES = WIDEST;

typedef Lanes<LANES> Several;
typedef int Bits __attribute__((vector_size(LANES * 4), may_alias));

struct Pool {
    const long *from, *to, *kernel, *stride, *padding;  // T, H, W
};

// Where a window begins and ends, along one dimension.
struct Window {
    long low, high;

    Window(const Pool &p, long d, long at) {
        const long first = at * p.stride[d] - p.padding[d];
        low = std::max(first, 0L), high = std::min(first + p.kernel[d], p.from[d]);
    }
};

// The larger of each two, or NaN: there neither comparison holds, so that one answers with the
// first of them and one with the second, and the bits of a NaN joined with any others are a NaN.
inline Several larger(const Several a, const Several b) {
    const Several one = a > b ? a : b, two = b > a ? b : a;
    return (Several)((Bits)one | (Bits)two);
}

// `COUNT` vectors of the largest numbers of some rows, column by column. What is largest is one of
// them: no rounding follows.
template <long COUNT>
void largest_at(const std::vector<const Map *> &rows, long i, Map *out) {
    Several v[COUNT];
    for (long k = 0; k < COUNT; k++) v[k] = load<LANES>(rows[0] + i + k * LANES);
    for (size_t r = 1; r < rows.size(); r++)
        for (long k = 0; k < COUNT; k++)
            v[k] = larger(load<LANES>(rows[r] + i + k * LANES), v[k]);
    for (long k = 0; k < COUNT; k++) store<LANES>(out + i + k * LANES, v[k]);
}

// Of rows of 16 or more.
void largest(const std::vector<const Map *> &rows, long count, Map *out) {
    long i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) largest_at<4>(rows, i, out);
    // The last vector begins early, and makes some columns a second time.
    for (; i < count; i += LANES) largest_at<1>(rows, std::min(i, count - LANES), out);
}

}  // namespace

// First along the frames and down the rows, then along what that leaves: of 3x3x3 pixels 9 are read
// for each column of a row, and 3 of those for each window.
extern "C" void max_pool(const Map *x, Map *out, long samples, long channels, const long *from,
                         const long *to, const long *kernel, const long *stride,
                         const long *padding, long threads) {
    const Pool p{from, to, kernel, stride, padding};
    const long width = from[2] * channels;
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < samples * to[0] * to[1]; row++) {
        const long n = row / (to[0] * to[1]);
        const Window frames(p, 0, row / to[1] % to[0]), rows(p, 1, row % to[1]);
        static thread_local std::vector<Map> columns;
        static thread_local std::vector<const Map *> read;
        columns.resize(width), read.clear();
        for (long t = frames.low; t < frames.high; t++)
            for (long h = rows.low; h < rows.high; h++)
                read.push_back(x + ((n * from[0] + t) * from[1] + h) * width);
        largest(read, width, columns.data());
        for (long w = 0; w < to[2]; w++) {
            const Window pixels(p, 2, w);
            read.clear();
            for (long v = pixels.low; v < pixels.high; v++)
                read.push_back(columns.data() + v * channels);
            largest(read, channels, out + (row * to[2] + w) * channels);
        }
    }
}
