// What a kernel that rebuilds is told of a convolution: `LayerStruct` of rebuild_native.py.

constexpr long MOST_PATHS = 4;

struct Path {
    long gate;         // its column in a sample's gates
    long scale;        // k_i, or R_j
    const float *phi;  // (taps, C - k_i), or (R_j - 1, taps, C); null where nothing is rebuilt
};

struct Layer {
    long channels, computed, side, relu, channel_paths, time_paths, gates;
    Path channel[MOST_PATHS], time[MOST_PATHS];  // the open ones, the most computed first
    const float *scale, *bias;                   // (C,)

    long step() const { return time_paths ? time[0].scale : 1; }
    long period() const { return time_paths ? time[time_paths - 1].scale : 1; }
};
