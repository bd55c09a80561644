// What follows a convolution whose channels are taken in vectors of 16: see convolutions.cpp.

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr long LANES = 16;

// What the compiler keeps in registers: one of AVX-512, or two of half of its width.
#ifdef __AVX512F__
typedef Lanes<LANES> Sixteen;

inline Sixteen all(float v) { return Sixteen{} + v; }
inline Sixteen &part_of(Sixteen &v, long) { return v; }
inline Sixteen larger(Sixteen a, Sixteen b) { return a < b ? b : a; }
template <typename T>
Sixteen take(const T *at) {
    return load<LANES>(at);
}
template <typename T>
void put(T *at, Sixteen v) {
    store<LANES>(at, v);
}
#else
struct Sixteen {
    Lanes<8> low, high;
};

inline Sixteen operator+(Sixteen a, Sixteen b) { return {a.low + b.low, a.high + b.high}; }
inline Sixteen operator*(Sixteen a, Sixteen b) { return {a.low * b.low, a.high * b.high}; }
inline Sixteen operator*(Sixteen a, float b) { return {a.low * b, a.high * b}; }
inline Sixteen &operator+=(Sixteen &a, Sixteen b) { return a = a + b; }
inline Sixteen all(float v) { return {Lanes<8>{} + v, Lanes<8>{} + v}; }
inline Lanes<8> &part_of(Sixteen &v, long first) { return first ? v.high : v.low; }
inline Sixteen larger(Sixteen a, Sixteen b) {
    return {a.low < b.low ? b.low : a.low, a.high < b.high ? b.high : a.high};
}
template <typename T>
Sixteen take(const T *at) {
    return {load<8>(at), load<8>(at + 8)};
}
template <typename T>
void put(T *at, Sixteen v) {
    store<8>(at, v.low);
    store<8>(at + 8, v.high);
}
#endif

struct Epilogue {
    const float *scale, *bias;  // (C,); null for ones, and for zeros
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
        : scale(e.scale ? take(e.scale + c) * factor : all(factor)),
          bias(e.bias ? take(e.bias + c) : all(0)), least(all(e.relu ? 0 : -INFINITY)) {}

    Sixteen of(Sixteen sum, const Map *residual = nullptr) const {
        sum = bias + scale * sum;
        if (residual) sum += take(residual);
        return larger(sum, least);
    }

    template <typename Out>
    void write(Sixteen sum, const Map *residual, Out *out) const {
        put(out, of(sum, residual));
    }

    // Of fewer channels than a vector has.
    template <typename Out>
    void write_some(Sixteen sum, const Map *residual, Out *out, long channels) const {
        Map other[LANES] = {};
        Out whole[LANES];
        if (residual) std::copy_n(residual, channels, other);
        write(sum, residual ? other : nullptr, whole);
        std::copy_n(whole, channels, out);
    }
};

// The last vector begins early, and makes some channels a second time, unless it is the only one.
long vectors_of(long channels) { return (channels + LANES - 1) / LANES; }
long start_of(long vector, long channels) {
    return std::max(std::min(vector * LANES, channels - LANES), 0L);
}

}  // namespace
