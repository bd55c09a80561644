// `decide`: what `vared_mm.method.gate` does in evaluation, its BatchNorm folded into weight1.
//
// `max_pool`: torch's, which takes several times as long over maps that lie channels last.
//
// Maps lie channels last, (N, T, H, W, C), so the innermost loops run over channels.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

constexpr long LANES = 16;

typedef Vector<LANES>::type Sixteen;
typedef int Bits __attribute__((vector_size(LANES * 4), may_alias));

struct Gate {
    long channels, hidden, axes, choices;
    const float *weight1, *bias1;  // (hidden, C), (hidden,)
    const float *weight2, *beta;   // (axes * choices, hidden), (axes * choices,)
    float floor;
};

// The mean of each sample's channels: pieces in float, their sum in double.
std::vector<float> means(const float *x, long samples, long pixels, long channels, long threads) {
    const long piece = 256, pieces = (pixels + piece - 1) / piece;
    // Few channels fill no vector: some pixels are summed side by side, as if they were channels.
    const long together = channels < 64 ? 16 : 1, wide = together * channels;
    std::vector<float> partial(samples * pieces * channels), mean(samples * channels);
#pragma omp parallel for num_threads(threads)
    for (long unit = 0; unit < samples * pieces; unit++) {
        const long first = unit % pieces * piece, last = std::min(first + piece, pixels);
        const float *at = x + (unit / pieces * pixels + first) * channels;
        const float *end = at + (last - first) * channels;
        static thread_local std::vector<float> sums;
        sums.assign(wide, 0.f);
        float *sum = sums.data();
        for (; at < end; at += wide) {
            const long count = std::min(wide, long(end - at));
#pragma GCC ivdep
            for (long c = 0; c < count; c++) sum[c] += at[c];
        }
        for (long i = 1; i < together; i++)
            for (long c = 0; c < channels; c++) sum[c] += sum[i * channels + c];
        std::copy(sum, sum + channels, partial.data() + unit * channels);
    }
    for (long n = 0; n < samples; n++) {
        std::vector<double> sum(channels, 0.);
        for (long k = 0; k < pieces; k++)
            for (long c = 0; c < channels; c++) sum[c] += partial[(n * pieces + k) * channels + c];
        for (long c = 0; c < channels; c++) mean[n * channels + c] = sum[c] / pixels;
    }
    return mean;
}

// In eight sums, which fit one instruction and need not wait for each other.
double dot(const float *a, const float *b, long count) {
    double sums[8] = {};
    long i = 0;
    for (; i + 8 <= count; i += 8)
        for (long k = 0; k < 8; k++) sums[k] += double(a[i + k]) * b[i + k];
    for (; i < count; i++) sums[0] += double(a[i]) * b[i];
    return std::accumulate(sums, sums + 8, 0.);
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

namespace {

struct Pool {
    long samples, channels;
    long from[3], to[3], kernel[3], stride[3], padding[3];  // T, H, W
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
inline Sixteen larger(const Sixteen a, const Sixteen b) {
    const Sixteen one = a > b ? a : b, two = b > a ? b : a;
    return (Sixteen)((Bits)one | (Bits)two);
}

// `COUNT` vectors of the largest numbers of some rows, column by column.
template <long COUNT>
void largest_at(const std::vector<const float *> &rows, long i, float *out) {
    Sixteen v[COUNT];
    for (long k = 0; k < COUNT; k++) v[k] = lanes<LANES>(rows[0] + i + k * LANES);
    for (size_t r = 1; r < rows.size(); r++)
        for (long k = 0; k < COUNT; k++)
            v[k] = larger(lanes<LANES>(rows[r] + i + k * LANES), v[k]);
    for (long k = 0; k < COUNT; k++) lanes<LANES>(out + i + k * LANES) = v[k];
}

// Of rows of 16 or more.
void largest(const std::vector<const float *> &rows, long count, float *out) {
    long i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) largest_at<4>(rows, i, out);
    // The last vector begins early, and makes some columns a second time.
    for (; i < count; i += LANES) largest_at<1>(rows, std::min(i, count - LANES), out);
}

}  // namespace

// First along the frames and down the rows, then along what that leaves: of 3x3x3 pixels 9 are read
// for each column of a row, and 3 of those for each window.
extern "C" void max_pool(const Pool *pool, const float *x, float *out, long threads) {
    const Pool &p = *pool;
    const long width = p.from[2] * p.channels;
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < p.samples * p.to[0] * p.to[1]; row++) {
        const long n = row / (p.to[0] * p.to[1]);
        const Window frames(p, 0, row / p.to[1] % p.to[0]), rows(p, 1, row % p.to[1]);
        static thread_local std::vector<float> columns;
        static thread_local std::vector<const float *> read;
        columns.resize(width), read.clear();
        for (long t = frames.low; t < frames.high; t++)
            for (long h = rows.low; h < rows.high; h++)
                read.push_back(x + ((n * p.from[0] + t) * p.from[1] + h) * width);
        largest(read, width, columns.data());
        for (long w = 0; w < p.to[2]; w++) {
            const Window pixels(p, 2, w);
            read.clear();
            for (long v = pixels.low; v < pixels.high; v++)
                read.push_back(columns.data() + v * p.channels);
            largest(read, p.channels, out + (row * p.to[2] + w) * p.channels);
        }
    }
}
