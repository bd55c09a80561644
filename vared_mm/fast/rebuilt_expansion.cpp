// `expand_and_rebuild`: what `expand` does, where the open paths leave something to be rebuilt:
//
//     between = activate( scale * rebuild(pointwise(x)) + bias )
//     out = the same of depthwise(between)
//
// Segments are the narrowest share of the channels; a column is a vector of each, at the same
// place. What is rebuilt is made of its own column: each is made by itself, from the first frame to
// the last, and what it holds of a few frames stays in the cache.
//
// Follows open_paths.h and convolutions.cpp in one source. Symbols as in rebuild.py.

namespace {

// What is held of a strip of rows: this many floats.
constexpr long HELD = 1 << 19;

constexpr float ONES[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, ZEROS[LANES] = {};

// Rows of a map, held side by side between columns of zeros.
struct Band {
    long low, high, height, line;

    Band(long low, long high, long height, long line)
        : low(std::max(low, 0L)), high(std::min(high, height)), height(height), line(line) {}
    Band wider(long reach) const { return {low - reach, high + reach, height, line}; }
    long floats() const { return (high - low) * line; }
};

// Vectors of channels, a tile for each: those of some frames, or of what is made of them.
struct Tiles {
    float *at;
    Band band;
    long vectors;

    // Others, behind those of `frames` frames.
    Tiles next(long frames, const Band &band, long vectors) const {
        return {tile(frames, 0), band, vectors};
    }
    float *tile(long frame, long v) const { return at + (frame * vectors + v) * band.floats(); }
    void clear_sides(long frames) const {
        for (float *row = at; row < at + frames * vectors * band.floats(); row += band.line) {
            store(row, Lanes{});
            store(row + band.line - LANES, Lanes{});
        }
    }
    // Where row 0 would lie.
    const float *origin(long frame, long v) const { return tile(frame, v) - band.low * band.line; }
};

// A depthwise convolution of a map; with `point`, by the middle one of three taps alone.
struct Term {
    const float *origin, *taps;
    bool point;
};

struct Terms {
    Term at[2 * MOST_PATHS];
    long count = 0;

    void add(const float *origin, const float *taps, bool point = false) {
        at[count++] = {origin, taps, point};
    }
};

// The rows `to` of the sum, `out` their first pixel.
void sum_up(const Terms &terms, const Band &from, long stride, const Band &to, long width,
            const Finish &finish, float *out, long row_pitch, long pitch) {
    const auto *slides = stride == 1 ? SLIDES<1> : SLIDES<2>;
    for (long h = to.low; h < to.high; h++, out += row_pitch) {
        Meeting m;
        for (long i = 0; i < terms.count; i++) {
            const Term &term = terms.at[i];
            for (long j = term.point; j < 3 - term.point; j++) {
                const long row = h * stride + j - 1;
                if (row < 0 || row >= from.height) continue;
                m.row[m.count] = term.origin + row * from.line;
                m.taps[m.count++] = term.taps + (term.point ? 0 : j * 3 * LANES);
            }
        }
        for (long w = 0; w < width; w += PIXELS)
            slides[std::min(PIXELS, width - w) - 1](m, w, finish, nullptr, out, pitch);
    }
}

const Epilogue AS_IT_IS{ONES, ZEROS, 0, 0, 0, {}};

// What is made of the computed maps of one column of one sample, a period of frames at a time.
struct Rebuilding {
    const Layer &l;
    const float *gates;
    const long segment, first;  // channels of a segment, and the column's place in it
    const long made;            // segments, in all
    const Tiles raw, mixed;     // of the computed frames: what is computed, and all their channels
    float *const taps;          // times the gates: `used` floats
    const long step = l.step(), period = l.period();
    long used = 0;

    // Of the one path that is open, where it computes all that is made.
    float factor() const {
        const float channel = l.channel_paths ? gates[l.channel[0].gate] : 1;
        return l.time_paths ? channel * gates[l.time[0].gate] : channel;
    }

    Epilogue epilogue() const { return {l.scale, l.bias, l.relu, 0, 0, {}}; }
    Finish finish(long s) const { return {epilogue(), s * segment + first, 1}; }

    // The paths that compute a segment hand it on; is there another one, which rebuilds it?
    float handed_on(long s) const {
        float sum = l.channel_paths ? 0 : 1;
        for (long i = 0; i < l.channel_paths; i++)
            if (s * segment < l.channel[i].scale) sum += gates[l.channel[i].gate];
        return sum;
    }
    bool mixes(long s) const {
        return l.channel_paths && l.channel[l.channel_paths - 1].scale <= s * segment;
    }
    // Whether other frames are made of this one, with all its channels.
    bool is_base(long q) const {
        for (long j = 0; j < l.time_paths; j++)
            if (l.time[j].scale > 1) return q % l.time[j].scale == 0;
        return false;
    }

    const float *gated(const float *phi, long pitch, float gate) {
        float *own = taps + used;
        for (long k = 0; k < 9; k++) store(own + k * LANES, load(phi + k * pitch) * gate);
        used += 9 * LANES;
        return own;
    }
    const float *point(float weight) {
        float *own = taps + used;
        for (long k = 0; k < 3; k++) store(own + k * LANES, Lanes{} + (k == 1 ? weight : 0));
        used += 3 * LANES;
        return own;
    }

    void add_channels(Terms &terms, long base, long s, float weight) {
        const long c = s * segment + first;
        if (const float by = handed_on(s) * weight) terms.add(raw.origin(base, s), point(by), true);
        for (long i = 0; i < l.channel_paths; i++) {
            const Path &p = l.channel[i];
            if (s * segment < p.scale) continue;
            terms.add(raw.origin(base, s % (p.scale / segment)),
                      gated(p.phi + c - p.scale, l.channels - p.scale, gates[p.gate] * weight));
        }
    }

    // Frame q of a period.
    Terms of_frames(long q, long s) {
        Terms terms;
        const long c = s * segment + first;
        float handed = l.time_paths ? 0 : 1;
        for (long j = 0; j < l.time_paths; j++) {
            const Path &p = l.time[j];
            const long part = q % p.scale, base = (q - part) / step;
            if (!part) {
                handed += gates[p.gate];
                continue;
            }
            const float *phi = p.phi + (part - 1) * 9 * l.channels + c;
            if (mixes(s))
                terms.add(mixed.origin(base, s), gated(phi, l.channels, gates[p.gate]));
            else
                terms.add(raw.origin(base, s),
                          gated(phi, l.channels, gates[p.gate] * handed_on(s)));
        }
        if (handed == 0) return terms;
        if (mixes(s) && is_base(q))
            terms.add(mixed.origin(q / step, s), point(handed), true);
        else
            add_channels(terms, q / step, s, handed);
        return terms;
    }

    // Of the frames `low` to `high` of a period each `every`-th; `write` is told a frame, a segment
    // and its terms.
    template <class Write>
    void run(long low, long high, long every, long width, const Write &write) {
        used = 0;
        for (long q = 0; q < high; q += step)
            for (long s = 0; s < made && is_base(q); s++) {
                if (!mixes(s)) continue;
                Terms terms;
                add_channels(terms, q / step, s, 1);
                sum_up(terms, raw.band, 1, mixed.band, width, Finish(AS_IT_IS, 0, 1),
                       mixed.tile(q / step, s) + LANES, mixed.band.line, LANES);
            }
        for (long q = low; q < high; q += every)
            for (long s = 0; s < made; s++) write(q, s, of_frames(q, s));
    }
};

// Where the pointwise convolution of a column goes.
struct InColumn {
    const long *place;
    long plane, segment, first;
    long operator()(long pixel, long v) const { return place[pixel] + v * plane; }
    long channel(long v) const { return v * segment + first; }
};

// One column of a strip of rows of a sample.
struct Column {
    const Pointwise &first;  // the column's filters alone
    const Depthwise &second;
    const float *taps;  // the column's: (computed segments, frames * 9, 16)
    const Clip &s;
    const long every;   // frame is asked for
    Rebuilding &a, &b;  // after the first, after the second
    const Tiles between;
    const Band rows;
    const float *x;
    float *out;
    std::vector<long> &place;

    const long slots = 2 * a.period + 1, computed = between.vectors;
    const bool rebuilt = a.period > 1 || a.l.channel_paths > 1;

    const Tiles &target() const { return rebuilt ? a.raw : between; }

    void run(long from, long to) const {
        const Band &band = target().band;
        place.clear();
        for (long h = 0; h < band.high - band.low; h++)
            for (long w = 0; w < s.width; w++) place.push_back(h * band.line + (w + 1) * LANES);
        // The neighbours in time of what is computed: before its period, and perhaps behind it.
        const long half = second.kernel / 2, behind = half && a.step == 1;
        if (from && half) expand(from - 1, a.period - 1, a.period);
        long ready = from;
        for (long p = from; p < to; p++) {
            for (; ready <= p + behind; ready++) expand(ready, 0, ready < to ? a.period : 1);
            convolve(p);
        }
    }

    // Frames `low` to `high` of a period, as far as there are any.
    void expand(long p, long low, long high) const {
        const long t = p * a.period, frames = std::min(high, s.frames - t);
        const Band &band = target().band;
        for (long q = 0; q < frames; q += a.step) {
            const float *from = x + ((t + q) * s.height + band.low) * s.width * s.pixel;
            const long pixels = (band.high - band.low) * s.width;
            if (rebuilt)
                panels(first, AS_IT_IS, from, s.pixel, pixels, 1, nullptr,
                       a.raw.tile(q / a.step, 0), InColumn{place.data(), band.floats(), 0, 0});
            else
                panels(first, a.epilogue(), from, s.pixel, pixels, a.factor(), nullptr,
                       between.tile((t + q) % slots, 0),
                       InColumn{place.data(), band.floats(), a.segment, a.first});
        }
        if (!rebuilt) return;
        a.run(low, frames, 1, s.width, [&](long q, long v, const Terms &terms) {
            sum_up(terms, a.raw.band, 1, between.band, s.width, a.finish(v),
                   between.tile((t + q) % slots, v) + LANES, between.band.line, LANES);
        });
    }

    void convolve(long p) const {
        const long t = p * b.period, frames = std::min(b.period, s.frames - t);
        const long half = second.kernel / 2;
        const long row = s.out_width * b.l.channels;
        for (long q = 0; q < frames; q += b.step)
            for (long v = 0; v < computed; v++) {
                Terms terms;
                for (long k = 0; k < second.kernel; k++) {
                    const long f = t + q + k - half;
                    if (f >= 0 && f < s.frames)
                        terms.add(between.origin(f % slots, v),
                                  taps + (v * second.kernel + k) * 9 * LANES);
                }
                sum_up(terms, between.band, second.stride, b.raw.band, s.out_width,
                       Finish(AS_IT_IS, 0, 1), b.raw.tile(q / b.step, v) + LANES,
                       b.raw.band.line, LANES);
            }
        b.run(0, frames, every, s.out_width, [&](long q, long v, const Terms &terms) {
            const long c = v * b.segment + b.first;
            sum_up(terms, b.raw.band, 1, rows, s.out_width, b.finish(v),
                   out + ((t + q) / every * s.out_height + rows.low) * row + c, row, b.l.channels);
        });
    }
};

// From the beginning of a cache line on.
float *aligned(std::vector<float> &memory) {
    const size_t start = reinterpret_cast<size_t>(memory.data()) / 4 % LANES;
    return memory.data() + (LANES - start) % LANES;
}

}  // namespace

// `first` and `second` have their weights column by column, those of the computed segments alone.
// The two layers follow one gate: their paths are the same, and all segments are of 16 channels or
// more, as many each. Each `every`-th frame is asked for: all, or those that all paths compute.
extern "C" void expand_and_rebuild(const Pointwise *first, const Layer *first_layer,
                                   const Depthwise *second, const Layer *second_layer,
                                   long segment, long every, const Clip *clip, const float *x,
                                   const float *gates_before, const float *gates, float *out,
                                   long threads) {
    const Layer &la = *first_layer, &lb = *second_layer;
    const Clip &s = *clip;
    const long computed = la.computed / segment, segments = lb.channels / segment;
    const long step = la.step(), period = la.period(), bases = period / step;
    const long columns = vectors_of(segment), stride = second->stride;
    const long line = (s.width + 2) * LANES, out_line = (s.out_width + 2) * LANES;
    const bool across = period > 1, mixing = la.channel_paths > 1;
    const long of_ring = (2 * period + 1 + 2 * bases) * computed * line;
    const long of_rest = bases * (computed + segments) * out_line;
    const long wanted = HELD / (of_ring * stride + of_rest);
    const long rows = std::clamp(wanted, 1L, s.out_height);
    const long strips = (s.out_height + rows - 1) / rows;
    // What is rebuilt is made of two rows more on either side, and so is what that is made of.
    const long held = of_ring * std::min((rows + 4) * stride + 6, s.height) +
                      of_rest * std::min(rows + 4, s.out_height);
    const long periods = (s.frames + period - 1) / period;
    // What is before and behind reads and writes maps by pixels: a core finds its own in its cache.
    const long parts = std::clamp(threads / (s.samples * strips), 1L, periods);
    const long units = s.samples * strips * parts * columns;
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<float> memory, gated[2];
        static thread_local std::vector<long> place;
        memory.resize(std::max<size_t>(memory.size(), held + LANES));
        for (auto &own : gated)
            own.resize(segments * (period + bases) * 2 * MOST_PATHS * 9 * LANES + LANES);
        float *here = aligned(memory), *taps[] = {aligned(gated[0]), aligned(gated[1])};
#pragma omp for schedule(static)
        for (long unit = 0; unit < units; unit++) {
            const long column = unit % columns, part = unit / columns % parts;
            const long top = unit / columns / parts % strips * rows;
            const long n = unit / columns / parts / strips;
            const Band made(top, top + rows, s.out_height, out_line);
            const Band raw = made.wider(across + (mixing || computed < segments));
            const Band read(raw.low * stride - 1, (raw.high - 1) * stride + 2, s.height, line);
            const Tiles between{here, read, computed};
            const Tiles raw_a = between.next(2 * period + 1, read.wider(across + mixing), computed);
            const Tiles mixed_a = raw_a.next(bases, read.wider(1), computed);
            const Tiles raw_b = mixed_a.next(bases, raw, computed);
            const Tiles mixed_b = raw_b.next(bases, made.wider(1), segments);
            between.clear_sides(2 * period + 1);
            for (const Tiles *tiles : {&raw_a, &mixed_a, &raw_b, &mixed_b})
                tiles->clear_sides(bases);
            const long at = start_of(column, segment);
            Rebuilding a{la,    gates_before + n * la.gates, segment, at, computed, raw_a, mixed_a,
                         taps[0]};
            Rebuilding b{lb, gates + n * lb.gates, segment, at, segments, raw_b, mixed_b, taps[1]};
            const long of_filters = first->inputs * LANES, of_taps = second->kernel * 9 * LANES;
            const Pointwise filters{first->inputs, computed * LANES,
                                    first->weight + column * computed * of_filters};
            const Column one{filters, *second, second->taps + column * computed * of_taps, s, every,
                             a, b, between, made, x + n * s.frames * s.height * s.width * s.pixel,
                             out + n * s.out_frames * s.out_height * s.out_width * lb.channels,
                             place};
            one.run(part * periods / parts, (part + 1) * periods / parts);
        }
    }
}
