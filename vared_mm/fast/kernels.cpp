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
