// `decide`: what gate.py does in evaluation, by one call.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

// Sums of some pixels whose channels lie side by side; with a step, of how far each number is from
// the one so many floats later.
template <bool CHANGE>
void add_up(const Map *at, long pixels, long channels, long step, float *result) {
    // Few channels fill no vector: some pixels are summed side by side, as if they were channels.
    const long together = channels < 64 ? std::max(16L, 64 / channels) : 1;
    const long wide = together * channels;
    const Map *end = at + pixels * channels;
    static thread_local std::vector<float> sums;
    sums.assign(wide, 0.f);
    float *sum = sums.data();
    for (; at < end; at += wide) {
        const long count = std::min(wide, long(end - at));
#pragma GCC ivdep
        for (long c = 0; c < count; c++)
            sum[c] += CHANGE ? std::fabs(number(at[c + step]) - number(at[c])) : number(at[c]);
    }
    for (long i = 1; i < together; i++)
        for (long c = 0; c < channels; c++) sum[c] += sum[i * channels + c];
    std::copy(sum, sum + channels, result);
}

// The mean of each map's channels, whose pixels lie side by side or apart by all channels, over the
// first `pixels` of a map's `all`.
template <bool CHANGE>
std::vector<float> means(const Map *x, long maps, long channels, long pixels, long all, long step,
                         long threads) {
    if (!pixels) return std::vector<float>(maps * channels);
    // So many pixels are summed up in float, what they come to in double.
    const long piece = channels > 1 ? 256 : 4096, pieces = (pixels + piece - 1) / piece;
    std::vector<float> partial(maps * pieces * channels), mean(maps * channels);
#pragma omp parallel for num_threads(threads)
    for (long unit = 0; unit < maps * pieces; unit++) {
        const long first = unit % pieces * piece;
        add_up<CHANGE>(x + (unit / pieces * all + first) * channels,
                       std::min(piece, pixels - first), channels, step,
                       partial.data() + unit * channels);
    }
    for (long n = 0; n < maps; n++) {
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

// The answer of a gate, (samples, axes * choices), to maps (samples, frames, frame, channels) of
// `frame` pixels each, or with `planes` (samples, channels, frames, frame). NaN stays NaN.
extern "C" void decide(const Map *x, float *answer, long samples, long channels, long frames,
                       long frame, long planes, long change, long normalised, long axes, long choices, long hidden, const float *weight1,
                       const float *mean, const float *var, const float *scale, const float *shift,
                       const float *weight2, const float *beta, double eps, float floor,
                       long threads) {
    // A channel whose pixels lie side by side is a map of its own.
    const long maps = planes ? samples * channels : samples, side = planes ? 1 : channels;
    const long pixels = frames * frame, inputs = channels * (change ? 2 : 1);
    const std::vector<float> mean_of = means<false>(x, maps, side, pixels, pixels, 0, threads);
    std::vector<float> change_of;
    if (change)
        change_of = means<true>(x, maps, side, pixels - frame, pixels, frame * side, threads);
    std::vector<float> h(hidden);
    std::vector<double> z(choices);
    for (long n = 0; n < samples; n++) {
        for (long i = 0; i < hidden; i++) {
            const float *row = weight1 + i * inputs;
            double z = dot(row, &mean_of[n * channels], channels);
            if (change) z += dot(row + channels, &change_of[n * channels], channels);
            h[i] = std::tanh((z - mean[i]) / std::sqrt(var[i] + eps) * scale[i] + shift[i]);
        }
        for (long axis = 0; axis < axes; axis++, answer += choices) {
            for (long i = 0; i < choices; i++) {
                const long row = axis * choices + i;
                z[i] = dot(weight2 + row * hidden, h.data(), hidden) + beta[row];
                answer[i] = std::tanh(z[i]);
            }
            // Far below zero, several answers are -1.
            float *largest = answer + (std::max_element(z.begin(), z.end()) - z.begin());
            if (*largest <= 0) *largest = floor;
            for (long i = 0; i < choices; i++) answer[i] = answer[i] < 0 ? 0 : answer[i];
            const float sum = std::accumulate(answer, answer + choices, 0.f);
            for (long i = 0; i < choices && normalised; i++) answer[i] /= sum;
        }
    }
}
