// Vectors of LANES floats, at any address: what the C++ sources of ours compute with. Maps hold
// floats, or with BFLOAT16 the upper halves of floats; sums are floats.

#include <cstdint>
#include <type_traits>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#ifdef BFLOAT16
typedef uint16_t Map;
#else
typedef float Map;
#endif

// Floats of the processor's vectors, 8 where there are others: of longer ones GCC makes single
// numbers where they are compared, and no register is left.
#ifdef __AVX512F__
constexpr long WIDEST = 16;
#else
constexpr long WIDEST = 8;
#endif

template <typename T, int LANES>
struct Vector {
    typedef T type __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <int LANES>
using Lanes = typename Vector<float, LANES>::type;

template <int LANES>
Lanes<LANES> &lanes(float *at) {
    return *reinterpret_cast<Lanes<LANES> *>(at);
}

template <int LANES>
const Lanes<LANES> &lanes(const float *at) {
    return *reinterpret_cast<const Lanes<LANES> *>(at);
}

template <int LANES>
Lanes<LANES> load(const float *at) {
    return lanes<LANES>(at);
}

template <int LANES>
void store(float *at, Lanes<LANES> v) {
    lanes<LANES>(at) = v;
}

template <int LANES>
Lanes<LANES> load(const uint16_t *at) {
    using Words = typename Vector<uint32_t, LANES>::type;
    using Halves = typename Vector<uint16_t, LANES>::type;
    return (Lanes<LANES>)(__builtin_convertvector(*reinterpret_cast<const Halves *>(at), Words)
                          << 16);
}

// Rounded to the nearest, of two to the even one. What is smaller than the smallest normal number may
// become zero.
template <int LANES>
void store(uint16_t *at, Lanes<LANES> v) {
#ifdef __AVX512BF16__
    if constexpr (LANES == 16) {
        const __m256bh halves = _mm512_cvtneps_pbh((__m512)v);
        __builtin_memcpy(at, &halves, 32);
        return;
    }
#endif
    using Words = typename Vector<uint32_t, LANES>::type;
    using Halves = typename Vector<uint16_t, LANES>::type;
    const Words bits = (Words)v, rounded = bits + 0x7fff + (bits >> 16 & 1);
    // What is no number stays none.
    const Words kept = v == v ? rounded : bits | 0x400000;
    *reinterpret_cast<Halves *>(at) = __builtin_convertvector(kept >> 16, Halves);
}

inline float number(float v) { return v; }

inline float number(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float v;
    __builtin_memcpy(&v, &bits, 4);
    return v;
}

// In a register from here on: GCC would load it again for each product, which takes as long.
template <int LANES>
Lanes<LANES> held(Lanes<LANES> v) {
    if constexpr (LANES == WIDEST) {
#if defined(__AVX512F__)
        asm("" : "+v"(v));
#elif defined(__AVX2__)
        asm("" : "+x"(v));
#endif
    }
    return v;
}
