// Convolutions, of all channels or depthwise, and what follows them, in one pass over the maps:
//
//     out = activate( factor · scale · conv(x) + bias + residual )
//
// Maps lie channels last, (N, T, H, W, C). The channels that are made are taken in vectors of 16,
// of which the last begins early and makes some channels a second time; of fewer, where a
// convolution has no groups, one vector is made and some of it written.

namespace {

// Pixels of a row that share a load of the taps, at most.
constexpr long ALONG = 8;
// The frames that a depthwise convolution reads stay in the core's own cache: this many floats.
constexpr long RING = 1 << 18;
// What a part of a convolution without groups reads has about so many numbers, to stay there too;
// and where the image's neighbours are not read, about so many pixels, at most and at least.
constexpr long READ = (1 << 18) / sizeof(Map), MOST = 64, LEAST = 16;

long parts_of(long whole, long part) { return (whole + part - 1) / part; }

// Maps that a depthwise convolution reads, and those it makes.
struct Clip {
    long samples, frames, height, width, pixel;  // numbers of x from one pixel to the next
    long out_frames, out_height, out_width;

    // Each dimension is padded by as much as the kernel reaches beyond the pixel in its middle.
    Clip(long samples, long frames, long height, long width, long pixel, long step, long stride)
        : samples(samples), frames(frames), height(height), width(width), pixel(pixel),
          out_frames((frames - 1) / step + 1), out_height((height - 1) / stride + 1),
          out_width((width - 1) / stride + 1) {}
};

struct Depthwise {
    long channels, kernel, step, stride;  // kernel and stride in time, stride in space
};

// What meets a row of the output: rows of the input, up to 9, and the taps for each.
struct Rows {
    const Cell *row[9], *taps[9];
    long count = 0;
};

#ifdef PAIRS
template <int COUNT, int STRIDE>
void sum_up(const Rows &m, long w, Sixteen *sum) {
    __m512 own[COUNT] = {};
    for (long r = 0; r < m.count; r++) {
        const Cell *taps = m.taps[r], *x = m.row[r] + w * STRIDE / 2 * LANES;
        __m512bh tap[TAPS];
#pragma GCC unroll 4
        for (long k = 0; k < TAPS; k++) tap[k] = (__m512bh)_mm512_loadu_si512(taps + k * LANES);
        // Of the pixels 2j - 2 and 2j - 1, seen from the first output's.
#pragma GCC unroll 24
        for (long j = 0; j < ((COUNT - 1) * STRIDE + 1) / 2 + 2; j++) {
            const __m512bh at = (__m512bh)held<WIDEST>(load<WIDEST>((const float *)x + j * LANES));
            constexpr long OF[TAPS] = {0, -2, -1, -3};
#pragma GCC unroll 4
            for (long k = 0; k < TAPS; k++) {
                const long pixel = 2 * j + OF[k];
                if (pixel >= 0 && pixel % STRIDE == 0 && pixel / STRIDE < COUNT)
                    own[pixel / STRIDE] = _mm512_dpbf16_ps(own[pixel / STRIDE], tap[k], at);
            }
        }
    }
#pragma GCC unroll 8
    for (long i = 0; i < COUNT; i++) sum[i] = (Sixteen)own[i];
}
#else
template <int COUNT, int STRIDE>
void sum_up(const Rows &m, long w, Sixteen *sum) {
#pragma GCC unroll 2
    for (long p = 0; p < LANES; p += WIDEST) {
        Lanes<WIDEST> own[COUNT] = {};
        for (long r = 0; r < m.count; r++) {
            const float *taps = m.taps[r] + p, *x = m.row[r] + w * STRIDE * LANES + p;
            const Lanes<WIDEST> tap[TAPS] = {load<WIDEST>(taps), load<WIDEST>(taps + LANES),
                                          load<WIDEST>(taps + 2 * LANES)};
#pragma GCC unroll 24
            for (long j = 0; j < (COUNT - 1) * STRIDE + 3; j++) {
                const Lanes<WIDEST> at = held<WIDEST>(load<WIDEST>(x + j * LANES));
#pragma GCC unroll 3
                for (long k = 0; k < 3; k++)
                    if (j >= k && (j - k) % STRIDE == 0 && (j - k) / STRIDE < COUNT)
                        own[(j - k) / STRIDE] += tap[k] * at;
            }
        }
#pragma GCC unroll 8
        for (long i = 0; i < COUNT; i++) part_of(sum[i], p) = own[i];
    }
}
#endif

template <int COUNT, int STRIDE>
void slide(const Rows &m, long w, const Finish finish, const Map *residual, Map *out,
           long pitch) {
    Sixteen sum[COUNT];
    sum_up<COUNT, STRIDE>(m, w, sum);
#pragma GCC unroll 8
    for (long i = 0; i < COUNT; i++) {
        const long at = (w + i) * pitch;
        finish.write(sum[i], residual ? residual + at : nullptr, out + at);
    }
}

using Slide = decltype(&slide<1, 1>);
template <int STRIDE>
constexpr Slide SLIDES[ALONG] = {slide<1, STRIDE>, slide<2, STRIDE>, slide<3, STRIDE>,
                                 slide<4, STRIDE>, slide<5, STRIDE>, slide<6, STRIDE>,
                                 slide<7, STRIDE>, slide<8, STRIDE>};

// Some of a row of a frame that is rebuilt of another one, into cells.
template <int COUNT>
void slide_in_cells(const Rows &m, long w, const Finish finish, Cell *to) {
    Sixteen sum[COUNT + 1] = {};
    sum_up<COUNT, 1>(m, w, sum);
#pragma GCC unroll 8
    for (long i = 0; i < COUNT; i += PER_CELL)
        put_cell(to + i / PER_CELL * LANES, finish.of(sum[i]),
                 i + 1 < COUNT ? finish.of(sum[i + 1]) : Sixteen{});
}

using SlideInCells = decltype(&slide_in_cells<1>);
constexpr SlideInCells IN_CELLS[ALONG] = {slide_in_cells<1>, slide_in_cells<2>, slide_in_cells<3>,
                                          slide_in_cells<4>, slide_in_cells<5>, slide_in_cells<6>,
                                          slide_in_cells<7>, slide_in_cells<8>};

// The pointwise convolution that makes what the depthwise one reads: all frames, or each `step`-th,
// of which the others are rebuilt by 3 x 3 pixels.
struct Expander {
    const Filters filters;
    const Epilogue before, after;  // the latter of each frame, where not all are computed
    const long step;
    const Cell *taps;  // (vectors, (step - 1) * 3, TAPS, 16)
};

// What a thread works with, for one sample.
struct Expansion {
    const Expander *by;
    float factor;
    long made;                // the computed frame at hand
    Meeting meeting;          // of the pixels of a tile
    std::vector<float> kept;  // never filled, as a pixel is one run
};

// Rows `top` to `bottom` of some frames and vectors of one sample. The frames of x that are read lie
// in a ring, each vector by itself, the pixels of a row in cells, between cells of zeros.
struct Strip {
    const Depthwise &d;
    const Cell *taps;  // (vectors, kernel * 3, TAPS, 16)
    const Epilogue &e;
    const Clip &s;
    const Map *x, *residual;
    Map *out;
    Cell *ring;
    long top, bottom, first_vector, last_vector;
    float factor;
    Expansion *expansion;

    const long vectors = last_vector - first_vector, line = cells_of(s.width) * LANES;
    const long low = std::max(top * d.stride - 1, 0L);
    const long high = std::min((bottom - 1) * d.stride + 2, s.height);
    // What frames in between are rebuilt of: behind the ring, with the rows beside these.
    const bool rebuilds = expansion && expansion->by->step > 1;
    const long above = std::max(low - rebuilds, 0L), below = std::min(high + rebuilds, s.height);
    Cell *const computed = ring + d.kernel * vectors * (high - low) * line;

    Cell *tile(long frame, long vector) const {
        return ring + (frame % d.kernel * vectors + vector - first_vector) * (high - low) * line;
    }

    void run(long first, long last) const {
        const long rows = (d.kernel * (high - low) + rebuilds * (below - above)) * vectors;
        for (long row = 0; row < rows; row++) {
            std::fill_n(ring + row * line, LANES, Cell(0));
            std::fill_n(ring + (row + 1) * line - LANES, LANES, Cell(0));
        }
        if (expansion) {
            Meeting &m = expansion->meeting;
            m.clear(), m.meets(0, 0), expansion->made = -1;
            for (long h = 0; h < below - above; h++)
                for (long w = 0; w < parts_of(s.width, PER_CELL) * PER_CELL; w++)
                    m.add((h * s.width + std::min(w, s.width - 1)) * s.pixel,
                          h * line + (w / PER_CELL + 1) * LANES);
            m.fill_up();
        }
        long read = std::max(first * d.step - d.kernel / 2, 0L);
        for (long t = first; t < last; t++) {
            const long until = std::min(t * d.step + d.kernel / 2 + 1, s.frames);
            for (read = std::max(read, t * d.step - d.kernel / 2); read < until; read++)
                expansion ? expand(read) : copy(read);
            for (long v = first_vector; v < last_vector; v++) make(t, v);
        }
    }

    void copy(long frame) const {
        for (long v = first_vector; v < last_vector; v++) {
            const Map *from = x + frame * s.height * s.width * s.pixel + start_of(v, d.channels);
            Cell *to = tile(frame, v);
            for (long h = low; h < high; h++, to += line)
                for (long w = 0; w < s.width; w += PER_CELL) {
                    const Map *at = from + (h * s.width + w) * s.pixel;
                    const Sixteen next = w + 1 < s.width ? take(at + s.pixel) : Sixteen{};
                    put_cell(to + (w / PER_CELL + 1) * LANES, take(at), next);
                }
        }
    }

    void expand(long frame) const {
        if (!rebuilds) return multiply(frame, tile(frame, first_vector));
        const Expander &by = *expansion->by;
        const long part = frame % by.step;
        if (expansion->made != frame - part) multiply(expansion->made = frame - part, computed);
        for (long v = first_vector; v < last_vector; v++) {
            const Cell *from = computed + (v - first_vector) * (below - above) * line;
            const Finish finish(by.after, start_of(v, d.channels), 1);
            const Cell *taps = by.taps + (v * (by.step - 1) + part - 1) * 3 * TAPS * LANES;
            Cell *to = tile(frame, v) + LANES;
            for (long h = low; h < high; h++, to += line)
                part ? rebuild(from, taps, h, finish, to)
                     : finish_row(from + (h - above) * line + LANES, finish, to);
        }
    }

    // The pointwise convolution of a frame, all rows that are read or rebuilt of.
    void multiply(long frame, Cell *to) const {
        const Map *first = x + (frame * s.height + above) * s.width * s.pixel;
        const long plane = (below - above) * line;
        const Expander &by = *expansion->by;
        const Meeting *meeting = &expansion->meeting;
        // As if all vectors were there: `make` goes to the first one's tile.
        Direct<Cell>{by.filters, by.before, expansion->factor, meeting, meeting + 1, first,
                     nullptr, to - first_vector * plane, plane, expansion->kept}
            .make(first_vector, last_vector);
#ifdef PAIRS
        // The last cell of a row may have a pixel that is not there.
        if (s.width % PER_CELL)
            for (long row = 1; row <= (below - above) * vectors; row++)
                for (Cell *at = to + row * line, *i = at - LANES; i < at; i++) *i &= 0xffff;
#endif
    }

    void finish_row(const Cell *from, const Finish &finish, Cell *to) const {
        for (long w = 0; w < s.width; w += PER_CELL, from += LANES, to += LANES)
            put_cell(to, finish.of(take_cell(from, 0)),
                     w + 1 < s.width ? finish.of(take_cell(from, 1)) : Sixteen{});
    }

    void rebuild(const Cell *from, const Cell *taps, long h, const Finish &finish,
                 Cell *to) const {
        Rows m;
        for (long j = 0; j < 3; j++)
            if (h + j - 1 >= above && h + j - 1 < below) {
                m.row[m.count] = from + (h + j - 1 - above) * line;
                m.taps[m.count++] = taps + j * TAPS * LANES;
            }
        for (long w = 0; w < s.width; w += ALONG)
            IN_CELLS[std::min(ALONG, s.width - w) - 1](m, w, finish, to + w / PER_CELL * LANES);
    }

    void make(long t, long v) const {
        const long c = start_of(v, d.channels), half = d.kernel / 2;
        const Finish finish(e, c, factor);
        const auto *slides = d.stride == 1 ? SLIDES<1> : SLIDES<2>;
        const long first = std::max(t * d.step - half, 0L);
        const long frames = std::min(t * d.step + half + 1, s.frames) - first;
        const Cell *tiles[3];
        const Cell *own = taps + (v * d.kernel + first - t * d.step + half) * 3 * TAPS * LANES;
        for (long i = 0; i < frames; i++) tiles[i] = tile(first + i, v);
        for (long h = top; h < bottom; h++) {
            Rows m;
            for (long i = 0; i < frames; i++)
                for (long j = 0; j < 3; j++) {
                    const long from = h * d.stride + j - 1;
                    if (from < low || from >= high) continue;
                    m.row[m.count] = tiles[i] + (from - low) * line;
                    m.taps[m.count++] = own + (i * 3 + j) * TAPS * LANES;
                }
            const long at = (t * s.out_height + h) * s.out_width * d.channels + c;
            for (long w = 0; w < s.out_width; w += ALONG) {
                const long count = std::min(ALONG, s.out_width - w);
                slides[count - 1](m, w, finish, residual ? residual + at : nullptr, out + at,
                                  d.channels);
            }
        }
    }
};

}  // namespace

// How many vectors of filters lie side by side.
extern "C" long vectors() { return VECTORS; }

// Whether the processor is one whose registers the kernels are written for: AVX-512's or AVX2's.
extern "C" long suits() {
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
    return 1;
#else
    return 0;
#endif
}

namespace {

struct Conv : Moves {
    const Filters &f;

    bool reads_neighbours() const {
        return kernel[1] * kernel[2] > 1 || padding[1] || padding[2];
    }

    // Where no neighbours are read, lines are as long as pixels are equally far apart in x.
    void flatten() {
        if (reads_neighbours() || stride[1] > 1 || stride[2] > 1) return;
        from = {from.frames, 1, from.pixels()}, to = {to.frames, 1, to.pixels()};
        if (kernel[0] > 1 || stride[0] > 1 || padding[0]) return;
        from = {1, 1, from.frames * from.width}, to = {1, 1, to.frames * to.width};
    }
};

// Some of the output of a sample: frames, rows, columns and vectors of filters.
struct Part : Window {
    long sample, left, right, first_vector, last_vector;
};

// What one thread works with.
struct Worker {
    const Conv &c;
    const Epilogue &e;
    const Map *x, *residual;
    Map *out;
    std::vector<Map> copy;
    std::vector<Meeting> meetings;
    long count;  // of those that are in use
    std::vector<float> kept;
    Shape listed;  // of the pixels of the only one, where all runs meet them; else nothing

    void run(const Part &p) {
        const Map *sample = x + p.sample * c.of_sample();
        const View v = c.reads_neighbours() ? c.copy(sample, p, 0, copy) : as_it_is(sample, p);
        const long frame = p.first * c.stride[0] - c.padding[0] - v.first;
        meet(p, v);
        const long pixel = (p.sample * c.to.frames + p.first) * c.to.height + p.top;
        const long at = (pixel * c.to.width + p.left) * c.f.count;
        Direct<Map>{c.f,
                    e,
                    e.factor_of(p.sample),
                    meetings.data(),
                    meetings.data() + count,
                    v.at + frame * v.frame,
                    residual ? residual + at : nullptr,
                    out + at,
                    0,
                    kept}
            .make(p.first_vector, p.last_vector);
    }

    View as_it_is(const Map *sample, const Part &p) const {
        const long row = c.from.width * c.pixel;
        return {sample + p.top * c.stride[1] * row + p.left * c.stride[2] * c.pixel, 0,
                c.from.height * row, row, c.pixel};
    }

    // The pixels of a part, those together that meet the same frames and rows of the kernel.
    void meet(const Part &p, const View &v) {
        const Shape all{p.last - p.first, p.bottom - p.top, p.right - p.left};
        const long last = alike(0, p.first, p.last), bottom = alike(1, p.top, p.bottom);
        const bool whole = last == p.last && bottom == p.bottom &&
                           c.there(0, p.first) == std::pair(0L, c.kernel[0]) &&
                           c.there(1, p.top) == std::pair(0L, c.kernel[1]);
        // Of most parts they are the same.
        if (whole && all == listed) return;
        listed = whole ? all : Shape{};
        count = 0;
        for (long t = p.first, end; t < p.last; t = end) {
            end = alike(0, t, p.last);
            for (long h = p.top, low; h < p.bottom; h = low) {
                low = alike(1, h, p.bottom);
                if (count == long(meetings.size())) meetings.emplace_back();
                Meeting &m = meetings[count++];
                m.clear();
                find_runs(m, v, c.there(0, t), c.there(1, h));
                for (long i = t - p.first; i < end - p.first; i++)
                    for (long j = h - p.top; j < low - p.top; j++)
                        for (long w = 0; w < p.right - p.left; w++)
                            m.add(i * c.stride[0] * v.frame + j * c.stride[1] * v.row +
                                      w * c.stride[2] * v.pixel,
                                  ((i * c.to.height + j) * c.to.width + w) * c.f.count);
                m.fill_up();
            }
        }
    }

    // Until where the frames from one on, or the rows, meet the same of the kernel.
    long alike(long d, long first, long end) const {
        const auto which = c.there(d, first);
        while (++first < end && c.there(d, first) == which) {}
        return first;
    }

    void find_runs(Meeting &m, const View &v, std::pair<long, long> frames,
                   std::pair<long, long> rows) const {
        const long of_frame = c.f.runs / c.kernel[0], of_row = of_frame / c.kernel[1];
        long run = 0;
        c.for_rows(v, [&](long at) {
            for (long k = 0; k < c.row(); k += c.f.run, run++) {
                const long frame = run / of_frame, row = run % of_frame / of_row;
                if (frame >= frames.first && frame < frames.second && row >= rows.first &&
                    row < rows.second)
                    m.meets(run, at + k);
            }
        });
    }
};

}  // namespace

// A convolution without groups. x has `pixel` channels, of which `inputs` are read.
extern "C" void direct(long inputs, long filters, long runs, long run, const Weight *weight,
                       const long *kernel, const long *stride, const long *padding,
                       const long *dilation, const float *scale, const float *bias, long relu,
                       long columns, long factors, const long *factor, long samples,
                       const long *from, const long *to, long pixel, const Map *x,
                       const float *gates, const Map *residual, Map *out, long threads) {
    const Filters f{filters, runs, run, weight};
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    Conv c{{inputs, pixel, kernel, stride, padding, dilation,
            {from[0], from[1], from[2]}, {to[0], to[1], to[2]}}, f};
    c.flatten();
    // A part has so many frames, rows and columns.
    long frames = c.to.frames, rows = c.to.height, across = c.to.width;
    const auto units = [&] {
        return samples * parts_of(c.to.frames, frames) * parts_of(c.to.height, rows) *
               parts_of(c.to.width, across);
    };
    // Filters are parted by two panels and more, as the last vector writes into what is the one's
    // before it.
    const long panels = parts_of(vectors_of(filters), VECTORS);
    const long most_parts = std::max(panels / 2, 1L);
    if (c.reads_neighbours()) {
        c.part(frames, rows, READ);
        while (frames > 1 && units() * most_parts < threads) frames = (frames + 1) / 2;
        while (rows > 1 && units() * most_parts < threads) rows = (rows + 1) / 2;
    } else {
        rows = 1;
        const long share = READ / (c.read(0, frames) * inputs);
        const long spread = samples * c.to.height * c.to.width / (4 * threads);
        const long most = std::clamp(std::min(share, spread), LEAST, MOST);
        const long even = parts_of(c.to.width, std::max(c.to.width / most, 1L));
        across = parts_of(even, PIXELS) * PIXELS;
    }
    // Few parts are divided once more, each for some of the filters.
    const long number = units(), more = std::min(parts_of(4 * threads, number), most_parts);
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<Map> memory;
        Worker worker{c, e, x, residual, out, std::move(memory), {}, 0, {}, {}};
#pragma omp for schedule(dynamic)
        for (long unit = 0; unit < number * more; unit++) {
            const long by = unit % more, of_columns = parts_of(c.to.width, across);
            const long of_rows = parts_of(c.to.height, rows);
            const long of_frames = parts_of(c.to.frames, frames);
            long piece = unit / more;
            const long left = piece % of_columns * across;
            piece /= of_columns;
            const long top = piece % of_rows * rows;
            piece /= of_rows;
            const long first = piece % of_frames * frames;
            worker.run({{first, std::min(first + frames, c.to.frames), top,
                         std::min(top + rows, c.to.height)},
                        piece / of_frames,
                        left,
                        std::min(left + across, c.to.width),
                        panels * by / more * VECTORS,
                        std::min(panels * (by + 1) / more * VECTORS, vectors_of(filters))});
        }
        memory = std::move(worker.copy);
    }
}

namespace {

// Taps of some rows as they meet cells: `memory`, or themselves.
const Cell *in_cells(const float *taps, long rows, std::vector<Cell> &memory) {
#ifdef PAIRS
    memory.resize(std::max<size_t>(memory.size(), rows * TAPS * LANES));
    for (long row = 0; row < rows; row++)
        put_taps(memory.data() + row * TAPS * LANES, taps + row * 3 * LANES);
    return memory.data();
#else
    return taps;
#endif
}

void run(const Expander *expander, const Depthwise &d, const float *taps, const Epilogue &e,
         const Clip &s, const Map *x, const Map *residual, Map *out, long threads) {
    // Some vectors of many rows rather than all of a few, as rows beside a strip are read for it
    // too: whole panels of an expansion's filters, and the last two together, as the last one writes
    // into what is the one's before it.
    const bool rebuilds = expander && expander->step > 1;
    const long all = vectors_of(d.channels);
    const long of_vector = (d.kernel + rebuilds) * cells_of(s.width) * LANES;
    const long whole = RING / (of_vector * (s.out_height * d.stride + 2)) / VECTORS * VECTORS;
    const long vectors = std::max({whole, VECTORS, 2L});
    const long groups = std::max((all + vectors - 2) / vectors, 1L);
    const long largest = groups > 1 ? std::max(all - (groups - 1) * vectors, vectors) : all;
    const long of_row = largest * of_vector;
    const long most = std::clamp((RING / of_row - 2) / d.stride, 1L, s.out_height);
    long strips = parts_of(s.out_height, most), parts = 1;
    // Then as many for each thread, along what is longer, as what is beside them is read twice.
    const bool along_rows = strips > 1 || s.out_height > s.out_frames;
    long &more = along_rows ? strips : parts;
    const auto units = [&] { return s.samples * groups * strips * parts; };
    while (units() % threads && units() < 4 * threads &&
           more < (along_rows ? s.out_height : s.out_frames))
        more++;
    const long rows = parts_of(s.out_height, strips);
    strips = parts_of(s.out_height, rows);
    static thread_local std::vector<Cell> memory;
    const Cell *cells = in_cells(taps, all * d.kernel * 3, memory);
#pragma omp parallel num_threads(threads)
    {
        static thread_local std::vector<Cell> memory;
        static thread_local Expansion expansion;
        const long read = rows * d.stride + 2 + 2 * rebuilds;
        memory.resize(std::max<size_t>(memory.size(), of_row * read + LANES));
        // From the beginning of a cache line on.
        const size_t start = reinterpret_cast<size_t>(memory.data()) / 4 % LANES;
        Cell *ring = memory.data() + (LANES - start) % LANES;
#pragma omp for schedule(dynamic)
        for (long unit = 0; unit < units(); unit++) {
            const long group = unit % groups, first = group * vectors, piece = unit / groups;
            const long last = group + 1 < groups ? first + vectors : all;
            const long n = piece / parts / strips, top = piece / parts % strips * rows;
            const long part = piece % parts;
            const long to = n * s.out_frames * s.out_height * s.out_width * d.channels;
            if (expander)
                expansion.by = expander, expansion.factor = expander->before.factor_of(n);
            const Strip strip{d, cells, e, s, x + n * s.frames * s.height * s.width * s.pixel,
                              residual ? residual + to : nullptr, out + to, ring,
                              top, std::min(top + rows, s.out_height),
                              first, last, e.factor_of(n), expander ? &expansion : nullptr};
            strip.run(part * s.out_frames / parts, (part + 1) * s.out_frames / parts);
        }
    }
}

}  // namespace

// A depthwise convolution of `kernel` x 3 x 3, at every `step`-th frame.
extern "C" void depthwise(long channels, long kernel, const float *taps, long step, long stride,
                          const float *scale, const float *bias, long relu, long columns,
                          long factors, const long *factor, long samples, long frames, long height,
                          long width, long pixel, const Map *x, const float *gates,
                          const Map *residual, Map *out, long threads) {
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    const Clip s(samples, frames, height, width, pixel, step, stride);
    run(nullptr, {channels, kernel, step, stride}, taps, e, s, x, residual, out, threads);
}

// The pointwise convolution of x, and the depthwise one of that, which is never written as a whole.
// The first one computes each `first_step`-th frame, of which `first_taps` rebuild those after it.
extern "C" void expand(long inputs, long filters, const Weight *weight, const float *first_scale,
                       const float *first_bias, long first_relu, long first_columns,
                       long first_factors, const long *first_factor, long first_step,
                       const float *first_taps, long channels, long kernel, const float *taps,
                       long step, long stride, const float *scale, const float *bias, long relu,
                       long columns, long factors, const long *factor, long samples, long frames,
                       long height, long width, long pixel, const Map *x, const float *first_gates,
                       const float *gates, Map *out, long threads) {
    const Epilogue e{scale, bias, relu, gates, columns, factors, factor};
    const Clip s(samples, frames, height, width, pixel, step, stride);
    const bool whole = first_step == 1;
    static thread_local std::vector<Cell> memory;
    // Frames are multiplied before others are rebuilt of them.
    const Expander by{
        {filters, 1, inputs, weight},
        {first_scale, whole ? first_bias : nullptr, whole && first_relu, first_gates,
         first_columns, first_factors, first_factor},
        {nullptr, first_bias, first_relu},
        first_step,
        in_cells(first_taps, vectors_of(channels) * (first_step - 1) * 3, memory),
    };
    run(&by, {channels, kernel, step, stride}, taps, e, s, x, nullptr, out, threads);
}
