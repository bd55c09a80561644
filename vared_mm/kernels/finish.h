// What follows a convolution whose channels are taken in vectors of 16: see convolutions.cpp.

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr long LANES = 16;
typedef Lanes<LANES> Sixteen;

struct Epilogue {
    const float *scale, *bias;  // (C,)
    long relu;
    const float *gates;  // (samples, columns)
    long columns, factors;
    const long *factor;  // the columns of the gates whose product is a sample's factor

    float factor_of(long sample) const {
        float product = 1;
        for (long i = 0; i < factors; i++) product *= gates[sample * columns + factor[i]];
        return product;
    }
};

// The epilogue of the channels `c` and following; `residual` is null or lies as `out` does.
struct Finish {
    Sixteen scale, bias, least;

    Finish(const Epilogue &e, long c, float factor)
        : scale(load<LANES>(e.scale + c) * factor), bias(load<LANES>(e.bias + c)),
          least(Sixteen{} + (e.relu ? 0 : -INFINITY)) {}

    template <typename Out>
    void write(Sixteen sum, const Map *residual, Out *out) const {
        sum = bias + scale * sum;
        if (residual) sum += load<LANES>(residual);
        store<LANES>(out, sum < least ? least : sum);
    }
};

// The last vector begins early, and makes some channels a second time.
long vectors_of(long channels) { return (channels + LANES - 1) / LANES; }
long start_of(long vector, long channels) { return std::min(vector * LANES, channels - LANES); }

}  // namespace
