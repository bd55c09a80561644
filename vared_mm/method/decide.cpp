// `decide`: what gate.py does in evaluation, by one call.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

struct Gate {
    long channels, hidden, axes, choices;
    const float *weight1;                     // (hidden, C)
    const float *mean, *var, *weight, *bias;  // BatchNorm's, (hidden,)
    const float *weight2, *beta;              // (axes * choices, hidden), (axes * choices,)
    double eps;
    float floor;
};

struct Maps {
    long samples, channels, pixels, channels_last;
};

// Sums of some pixels whose channels lie side by side.
void add_up(const float *at, long pixels, long channels, float *result) {
    // Few channels fill no vector: some pixels are summed side by side, as if they were channels.
    const long together = channels < 64 ? std::max(16L, 64 / channels) : 1;
    const long wide = together * channels;
    const float *end = at + pixels * channels;
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
    std::copy(sum, sum + channels, result);
}

// The mean of each sample's channels.
std::vector<float> means(const Maps &m, const float *x, long threads) {
    // A channel whose pixels lie side by side is a map of its own.
    const long channels = m.channels_last ? m.channels : 1;
    const long maps = m.samples * m.channels / channels;
    // So many pixels are summed up in float, what they come to in double.
    const long piece = m.channels_last ? 256 : 4096, pieces = (m.pixels + piece - 1) / piece;
    std::vector<float> partial(maps * pieces * channels), mean(m.samples * m.channels);
#pragma omp parallel for num_threads(threads)
    for (long unit = 0; unit < maps * pieces; unit++) {
        const long first = unit % pieces * piece;
        add_up(x + (unit / pieces * m.pixels + first) * channels, std::min(piece, m.pixels - first),
               channels, partial.data() + unit * channels);
    }
    for (long n = 0; n < maps; n++) {
        std::vector<double> sum(channels, 0.);
        for (long k = 0; k < pieces; k++)
            for (long c = 0; c < channels; c++) sum[c] += partial[(n * pieces + k) * channels + c];
        for (long c = 0; c < channels; c++) mean[n * channels + c] = sum[c] / m.pixels;
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

// The answer of a gate, (samples, axes * choices). NaN stays NaN.
extern "C" void decide(const Gate *gate, const Maps *maps, const float *x, float *answer,
                       long threads) {
    const Gate &g = *gate;
    const std::vector<float> mean = means(*maps, x, threads);
    std::vector<float> hidden(g.hidden);
    for (long n = 0; n < maps->samples; n++) {
        for (long i = 0; i < g.hidden; i++) {
            const double h = dot(g.weight1 + i * g.channels, &mean[n * g.channels], g.channels);
            hidden[i] = std::tanh((h - g.mean[i]) / std::sqrt(g.var[i] + g.eps) * g.weight[i] +
                                  g.bias[i]);
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
