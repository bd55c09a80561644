// Squeeze and excitation, and the Swish that may follow it, of maps that lie channels last:
//
//     out = swish( x · sigmoid( W2 · relu( W1 · mean(x) + b1 ) + b2 ) )

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr long LANES = WIDEST;
// So many pixels are summed up in float, what they come to in double.
constexpr long PIECE = 64;

typedef Lanes<LANES> Several;
typedef int Whole __attribute__((vector_size(LANES * 4)));

struct Excitation {
    long channels, hidden, swish;
    const float *weight1, *bias1;  // (hidden, C), (hidden,)
    const float *weight2, *bias2;  // (C, hidden), (C,)
};

// 2^f, |f| <= 1/2, by its Taylor series: an error of about 1e-7, or 4e-5 where maps have 8 bits.
Several power_of_part(Several f) {
#ifdef BFLOAT16
    Several sum = Several{} + 9.6181291e-3f;
#else
    Several sum = Several{} + 1.5403530e-4f;
    for (const float c : {1.3333558e-3f, 9.6181291e-3f}) sum = sum * f + c;
#endif
    for (const float c : {5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.f}) sum = sum * f + c;
    return sum;
}

// e^x as 2^n · 2^f. Infinite from 2^128 on, or a little before.
Several exponential(Several x) {
    const Several t = x * 1.44269504f;
#ifdef __AVX512F__
    const __m512 n = _mm512_roundscale_ps((__m512)t, _MM_FROUND_TO_NEAREST_INT);
    return (Several)_mm512_scalef_ps((__m512)power_of_part(t - (Several)n), n);
#else
    const Several low = Several{} - 126, high = Several{} + 128;
    const Several bounded = t < low ? low : t > high ? high : t;
    const Several shifted = bounded + 12582912.f, n = shifted - 12582912.f;  // 1.5 · 2^23 rounds
    const Whole power = (__builtin_convertvector(n, Whole) + 127) << 23;
    return power_of_part(bounded - n) * reinterpret_cast<const Several &>(power);
#endif
}

void swish(const Map *x, const Several factor, Map *out) {
    const Several v = load<LANES>(x) * factor;
    store<LANES>(out, v / (1 + exponential(-v)));
}

// What each channel of a sample is multiplied by.
std::vector<float> factors(const Excitation &e, const double *mean) {
    std::vector<float> hidden(e.hidden), factor(e.channels);
    for (long i = 0; i < e.hidden; i++) {
        double sum = e.bias1[i];
#pragma omp simd reduction(+ : sum)
        for (long c = 0; c < e.channels; c++) sum += e.weight1[i * e.channels + c] * mean[c];
        hidden[i] = sum < 0 ? 0 : sum;
    }
    for (long c = 0; c < e.channels; c++) {
        float sum = e.bias2[c];
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < e.hidden; i++) sum += e.weight2[c * e.hidden + i] * hidden[i];
        factor[c] = 1 / (1 + std::exp(-sum));
    }
    return factor;
}

// Sums of some pixels. The last vector begins early, and makes some channels a second time.
void add_up(const Map *x, long pixels, long channels, float *result) {
    for (long c = 0; c < channels; c += LANES) {
        const long at = std::min(c, channels - LANES);
        Several sums[4] = {};  // which need not wait for each other
        for (long p = 0; p + 4 <= pixels; p += 4)
            for (long i = 0; i < 4; i++) sums[i] += load<LANES>(x + (p + i) * channels + at);
        for (long p = pixels / 4 * 4; p < pixels; p++) sums[0] += load<LANES>(x + p * channels + at);
        store<LANES>(result + at, sums[0] + sums[1] + (sums[2] + sums[3]));
    }
}

// Some pixels, one after the other.
void excite(const Excitation &e, const Map *x, const float *factor, long pixels, Map *out) {
    for (long p = 0; p < pixels; p++, x += e.channels, out += e.channels) {
        for (long c = 0; c < e.channels; c += LANES) {
            const long at = std::min(c, e.channels - LANES);
            const Several own = load<LANES>(factor + at);
            e.swish ? swish(x + at, own, out + at)
                    : store<LANES>(out + at, load<LANES>(x + at) * own);
        }
    }
}

}  // namespace

// Swish alone, of maps in any layout; `out` may be x.
extern "C" void swish_alone(long count, const Map *x, Map *out, long threads) {
    const Several one = Several{} + 1;
    const long whole = count / LANES * LANES;
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < whole; i += LANES) swish(x + i, one, out + i);
    Map rest[LANES] = {};
    std::copy(x + whole, x + count, rest);
    swish(rest, one, rest);
    std::copy_n(rest, count - whole, out + whole);
}

// Of 16 channels or more.
extern "C" void squeeze_excite(long channels, long hidden, long swish, const float *weight1,
                               const float *bias1, const float *weight2, const float *bias2,
                               const Map *x, long samples, long pixels, Map *out,
                               long threads) {
    const Excitation e{channels, hidden, swish, weight1, bias1, weight2, bias2};
    const long pieces = (pixels + PIECE - 1) / PIECE;
    std::vector<float> factor(samples * e.channels), sums(samples * pieces * e.channels);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (long unit = 0; unit < samples * pieces; unit++) {
            const long first = unit % pieces * PIECE, last = std::min(first + PIECE, pixels);
            add_up(x + (unit / pieces * pixels + first) * e.channels, last - first, e.channels,
                   sums.data() + unit * e.channels);
        }
#pragma omp for
        for (long n = 0; n < samples; n++) {
            std::vector<double> mean(e.channels);
            for (long i = 0; i < pieces; i++)
                for (long c = 0; c < e.channels; c++)
                    mean[c] += sums[(n * pieces + i) * e.channels + c];
            for (double &value : mean) value /= pixels;
            const std::vector<float> own = factors(e, mean.data());
            std::copy(own.begin(), own.end(), factor.begin() + n * e.channels);
        }
#pragma omp for
        for (long unit = 0; unit < samples * pieces; unit++) {
            const long n = unit / pieces, first = unit % pieces * PIECE;
            const long at = (n * pixels + first) * e.channels;
            excite(e, x + at, factor.data() + n * e.channels, std::min(PIECE, pixels - first),
                   out + at);
        }
    }
}
