// `rebuild`: what few_passes.py does in several passes over the maps, and what follows it, in one:
//
//     out = activate( scale * rebuild(y) + bias + residual )
//
// Maps lie channels last, (N, F, H, W, C), so the innermost loops run over channels. Those that lie
// in planes, (N, C, F, H, W), are turned as they are read and written. Symbols as in equations.py: k_i
// channels and every R_j-th frame are computed; F computed frames, T of the output.

namespace {

// Makes the channels `c` and following of a block, as many as LANES.
template <int LANES>
struct Maker {
    const Layer &l;
    const Size &s;
    const float *gates;
    const Block &b;
    const long c;
    Tiles &tiles;

    const Lanes<LANES> one = Lanes<LANES>{} + 1;
    const long line = s.width * s.pixel, step = l.time_paths ? l.time[0].scale : 1;
    const bool frames_rebuilt = step > 1 || l.time_paths > 1;
    float direct = l.channel_paths ? 0.f : 1.f;  // the gates of the paths that compute them
    bool channels_rebuilt = false;

    void run() {
        for (long i = 0; i < l.channel_paths; i++)
            if (c < l.channel[i].scale) direct += gates[l.channel[i].gate];
            else channels_rebuilt = true;
        for (long q = 0; q < b.frames; q++) {
            Sum<LANES> sum = frames_rebuilt ? of_frames(q) : of_channels(0, b.top, factor());
            sum.base = load<LANES>(l.bias + c);
            s.in_planes() ? write_planes(sum, q) : write(sum, q);
        }
    }

    void write(Sum<LANES> &sum, long q) const {
        const long row = s.width * l.channels, at = (q * s.height + b.top) * row + c;
        sum.write(InMap{b.out + at, l.channels, row}, waiting(), l.side, b.bottom - b.top, s.width,
                  b.residual ? b.residual + at : nullptr, l.relu);
    }

    void write_planes(Sum<LANES> &sum, long q) const {
        const long rows = b.bottom - b.top, plane = s.frames * s.height * s.width;
        sum.write(waiting(), waiting(), l.side, rows, s.width, nullptr, l.relu);
        to_planes<LANES>(tiles.waiting, rows * s.width,
                         b.out + c * plane + (q * s.height + b.top) * s.width, plane);
    }

    InTile waiting() const { return {tiles.waiting, LANES, s.width * LANES}; }

    Lanes<LANES> factor() const {
        const Lanes<LANES> scale = load<LANES>(l.scale + c);
        return l.time_paths && !frames_rebuilt ? scale * gates[l.time[0].gate] : scale;
    }

    // Frame q of the period, made of its computed frames.
    Sum<LANES> of_frames(long q) {
        Sum<LANES> sum{factor()};
        float handed = 0;
        for (long j = 0; j < l.time_paths; j++) {
            const Path &p = l.time[j];
            const long part = q % p.scale;
            if (!part) {
                handed += gates[p.gate];
                continue;
            }
            const auto [tile, by] = frame((q - part) / step);
            sum.terms[sum.count++] = {tiles.at(*tile, b.top, true),
                                      p.phi + (part - 1) * l.side * l.side * l.channels + c,
                                      l.channels, gates[p.gate] * by};
        }
        if (q % step == 0) {
            const auto [tile, by] = frame(q / step);
            sum.from = tiles.at(*tile, b.top, false), sum.weight = handed * by * sum.factor;
        }
        return sum;
    }

    // These channels of a computed frame, and what they are still to be multiplied by.
    std::pair<const Tile *, float> frame(long base) {
        if (!channels_rebuilt)
            return {&computed(base, std::max(l.channel_paths - 1, 0L), c), direct};
        Tile &tile = tiles.tiles[(base + 1) * tiles.of_frame - 1];
        if (tiles.lacks(tile, LANES, b.top, c)) {
            const long half = l.side / 2;
            const long low = std::max(b.top - half, 0L), high = std::min(b.bottom + half, s.height);
            of_channels(base, low, one)
                .write(tiles.at(tile, low, false), waiting(), l.side, high - low, s.width, nullptr,
                       false);
        }
        return {&tile, 1.f};
    }

    // The sum of the channel paths for a computed frame, from row `low` on.
    Sum<LANES> of_channels(long base, long low, Lanes<LANES> factor) {
        Sum<LANES> sum{factor};
        for (long i = 0; i < l.channel_paths; i++) {
            const Path &p = l.channel[i];
            if (c < p.scale) continue;
            const Tile &tile = computed(base, i, c % p.scale);
            sum.terms[sum.count++] = {tiles.at(tile, low, true), p.phi + c - p.scale,
                                      l.channels - p.scale, gates[p.gate]};
        }
        if (direct == 0) return sum;
        // The first path is not among the terms: it computes the most.
        if (s.in_planes()) sum.from = tiles.at(computed(base, 0, c), low, false);
        else sum.own = rows_of(base, low, c);
        sum.weight = direct * factor;
        return sum;
    }

    // A copy of computed channels, in one of the tiles of its frame.
    const Tile &computed(long base, long place, long channel) {
        Tile &tile = tiles.tiles[base * tiles.of_frame + place];
        if (tiles.lacks(tile, LANES, b.top, channel)) {
            const long reach = l.side / 2 * (frames_rebuilt ? 2 : 1);
            const long low = std::max(b.top - reach, 0L);
            const long high = std::min(b.bottom + reach, s.height);
            const InMap from = rows_of(base, low, channel);
            const InTile to = tiles.at(tile, low, false);
            if (s.in_planes()) {
                for (long h = 0; h < high - low; h++)
                    from_planes<LANES>(from.at + h * line, s.channel, s.width, to.at + h * to.line);
                return tile;
            }
            Sum<LANES> copy{one};
            copy.own = from, copy.weight = one;
            copy.write(to, waiting(), l.side, high - low, s.width, nullptr, false);
        }
        return tile;
    }

    InMap rows_of(long base, long row, long channel) const {
        Map *first = const_cast<Map *>(b.y) + channel * s.channel;
        return {first + (base * s.height + row) * line, s.pixel, line};
    }
};

struct Chunk {
    long first, lanes;
};

// The channels in vectors, such that those of a vector are made of neighbours on every path. The
// last of a row begins early, unless `exact`, and makes some a second time. What is made of the
// same channels follows each other.
std::vector<Chunk> chunks_of(const Layer &l, bool exact) {
    std::vector<long> cuts{0, l.channels};
    long least = l.channels;
    for (long i = 0; i < l.channel_paths; i++) {
        least = l.channel[i].scale;
        for (long c = least; c < l.channels; c += least) cuts.push_back(c);
    }
    std::sort(cuts.begin(), cuts.end());
    std::vector<Chunk> chunks;
    for (size_t i = 1; i < cuts.size(); i++)
        for (long c = cuts[i - 1]; c < cuts[i];) {
            const long left = cuts[i] - (exact ? c : cuts[i - 1]);
            const long many = std::min(left, WIDEST);
            const long lanes = many >= 16 ? 16 : many >= 8 ? 8 : many >= 4 ? 4 : many >= 2 ? 2 : 1;
            chunks.push_back({std::min(c, cuts[i] - lanes), lanes});
            c += lanes;
        }
    const auto source = [&](const Chunk &chunk) { return chunk.first % least; };
    std::stable_sort(chunks.begin(), chunks.end(),
                     [&](auto &a, auto &b) { return source(a) < source(b); });
    return chunks;
}

// Asks for memory that will be written in steps, which the processor would not foresee.
void fetch(const Map *at, long count) {
    for (long i = 0; i < count; i += 64 / sizeof(Map)) __builtin_prefetch(at + i, 1, 2);
}

}  // namespace

// Sample n of y (N, F, H, W, k), or with `planes` (N, k, F, H, W), with gates (N, columns), is
// written to sample place[n] of out, (.., T, H, W, C) or (.., C, T, H, W). Channels last, there may
// be a residual, and out may be y where nothing is rebuilt. Each axis tells its open paths, the most
// computed first; none where it has none. Φ lie as torch keeps them, null where nothing is rebuilt.
extern "C" void rebuild(const Map *y, const float *gates, const long *place,
                        const Map *residual, Map *out, long samples, long computed,
                        long computed_frames, long planes, long channels, long frames, long height,
                        long width, long columns, long channel_paths, const long *channel_columns,
                        const long *channel_scales, const float *const *channel_phi,
                        long time_paths, const long *time_columns, const long *time_scales,
                        const float *const *time_phi, long side, const float *scale,
                        const float *bias, long relu, long threads) {
    const long image = height * width, of_sample = computed_frames * image * computed;
    const Size s{frames, height, width, planes ? computed_frames * image : 1, planes ? 1 : computed};
    Layer l{channels, side, relu, scale, bias, {}, {}, channel_paths, time_paths, {}};
    for (long i = 0; i < channel_paths; i++) {
        const long k = channel_scales[i];
        const float *phi = channel_phi[i];
        if (phi) phi = l.keep(taps_first(phi, 1, channels - k, side * side));
        l.channel[i] = {channel_columns[i], k, phi};
    }
    for (long j = 0; j < time_paths; j++) {
        const long r = time_scales[j];
        const float *phi = time_phi[j];
        if (phi) phi = l.keep(taps_first(phi, r - 1, channels, side * side));
        l.time[j] = {time_columns[j], r, phi};
    }
    const long step = time_paths ? l.time[0].scale : 1;
    const long period = time_paths ? l.time[time_paths - 1].scale : 1;
    const long bases = period / step, half = side / 2, line = width * channels;
    const long rows = std::clamp(STRIP / (line * bases), std::min(4L, height), height);
    const long strips = (height + rows - 1) / rows, blocks = (frames + period - 1) / period;
    const std::vector<Chunk> chunks = chunks_of(l, y == out);

#pragma omp parallel num_threads(threads)
    {
        Tiles tiles{half, width, rows, std::max(l.channel_paths, 1L) + 1, nullptr, {}};
        const long count = bases * tiles.of_frame, floats = Tiles::floats(half, width, rows);
        static thread_local std::vector<float> memory;
        memory.resize(std::max<size_t>(memory.size(), (count + 1) * floats + 16));
        // From the beginning of a cache line on.
        const size_t start = reinterpret_cast<size_t>(memory.data()) / 4 % 16;
        for (long i = 0; i < count; i++)
            tiles.tiles.push_back({memory.data() + (16 - start) % 16 + i * floats, 0, 0, -1});
        tiles.waiting = memory.data() + (16 - start) % 16 + count * floats;
#pragma omp for
        for (long unit = 0; unit < samples * blocks * strips; unit++) {
            const long n = unit / (blocks * strips), block = unit / strips % blocks;
            const long first = block * period, base = block * bases, top = unit % strips * rows;
            const long frame = s.in_planes() ? image : image * channels;
            const long to = place[n] * frames * image * channels + first * frame;
            const Block b{
                y + n * of_sample + base * image * s.pixel,
                residual ? residual + to : nullptr,
                out + to,
                std::min(period, frames - first),
                top,
                std::min(top + rows, height),
            };
            for (long q = 0; q < b.frames && !s.in_planes(); q++)
                fetch(b.out + (q * height + top) * line, (b.bottom - top) * line);
            tiles.forget();
            const float *own = gates + n * columns;
            for (const auto [c, lanes] : chunks) {
                if (lanes == 16) Maker<16>{l, s, own, b, c, tiles}.run();
                if (lanes == 8) Maker<8>{l, s, own, b, c, tiles}.run();
                if (lanes == 4) Maker<4>{l, s, own, b, c, tiles}.run();
                if (lanes == 2) Maker<2>{l, s, own, b, c, tiles}.run();
                if (lanes == 1) Maker<1>{l, s, own, b, c, tiles}.run();
            }
        }
    }
}
