// Vectors of LANES floats, at any address: what the C++ sources of ours compute with.

#include <type_traits>

template <int LANES>
struct Vector {
    typedef float type __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
};
template <int LANES>
using Lanes = typename Vector<LANES>::type;

template <int LANES>
Lanes<LANES> &lanes(float *at) {
    return *reinterpret_cast<Lanes<LANES> *>(at);
}

template <int LANES>
const Lanes<LANES> &lanes(const float *at) {
    return *reinterpret_cast<const Lanes<LANES> *>(at);
}
