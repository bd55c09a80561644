// How maps lie that a depthwise convolution reads: 16 channels of a pixel in a cell, as floats. Where
// one instruction multiplies two numbers of bfloat16 as quickly as one float, of two pixels of a row:
// each number a pair, the first in the lower half. (With AMX a processor multiplies twice as many
// floats.)

namespace {

#if defined(BFLOAT16) && defined(__AVX512BF16__) && !defined(__AMX_TILE__)
#define PAIRS
typedef uint32_t Cell;
// Taps of a row of the kernel, as they meet a cell.
constexpr long PER_CELL = 2, TAPS = 4;

inline void put_cell(Cell *to, Sixteen first, Sixteen second) {
    using Halves = typename Vector<uint16_t, 32>::type;
    const __m512bh both = _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    *reinterpret_cast<Halves *>(to) = __builtin_shufflevector(
        (Halves)both, (Halves)both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24,
        9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

inline Sixteen take_cell(const Cell *at, long pixel) {
    using Words = typename Vector<uint32_t, LANES>::type;
    const Words both = *reinterpret_cast<const Words *>(at);
    return (Sixteen)(pixel ? both & 0xffff0000 : both << 16);
}

// [-, left], [itself, right], [left, itself], [right, -]: what a pixel, the first or the second one
// of its cell, meets of the cell and of that beside it.
inline void put_taps(Cell *to, const float *taps) {
    const Sixteen left = take(taps), middle = take(taps + LANES), right = take(taps + 2 * LANES);
    put_cell(to, Sixteen{}, left), put_cell(to + LANES, middle, right);
    put_cell(to + 2 * LANES, left, middle), put_cell(to + 3 * LANES, right, Sixteen{});
}
#else
typedef float Cell;
constexpr long PER_CELL = 1, TAPS = 3;

inline void put_cell(Cell *to, Sixteen pixel, Sixteen) { put(to, pixel); }
inline Sixteen take_cell(const Cell *at, long) { return take(at); }
#endif

// Of a row, and of what is beside it: at least one pixel of zeros.
constexpr long cells_of(long width) { return width / PER_CELL + 2; }

}  // namespace
