// How a convolution without groups moves over maps, and a copy of what some of it reads, with zeros
// around: see convolutions.cpp and tiled_conv.cpp.

#include <algorithm>
#include <utility>
#include <vector>

namespace {

struct Shape {
    long frames, height, width;

    long pixels() const { return height * width; }
    bool operator==(const Shape &s) const {
        return frames == s.frames && height == s.height && width == s.width;
    }
};

// Where numbers of maps lie: frame `first`, and from a frame, row, pixel to the next.
struct View {
    const Map *at;
    long first, frame, row, pixel;
};

// Frames and rows of the output.
struct Window {
    long first, last, top, bottom;
};

struct Moves {
    long inputs, pixel;  // channels that are read; numbers of x from one pixel to the next
    const long *kernel, *stride, *padding, *dilation;  // T, H, W
    Shape from, to;

    // What a row of the kernel reads lies side by side.
    bool along_rows() const { return dilation[2] == 1; }
    long row() const { return along_rows() ? kernel[2] * inputs : inputs; }
    long rows_of_frame() const { return kernel[1] * (along_rows() ? 1 : kernel[2]); }
    long reach(long d) const { return (kernel[d] - 1) * dilation[d]; }
    // Of the input, for so many of the output.
    long read(long d, long count) const { return (count - 1) * stride[d] + reach(d) + 1; }
    long of_sample() const { return from.frames * from.pixels() * pixel; }

    // Which of the kernel's frames are there, from one on until before another, for frame i of the
    // output; with `d` 1, of its rows.
    std::pair<long, long> there(long d, long i) const {
        const long first = i * stride[d] - padding[d], size = d ? from.height : from.frames;
        long low = 0, high = kernel[d];
        while (low < high && first + low * dilation[d] < 0) low++;
        while (low < high && first + (high - 1) * dilation[d] >= size) high--;
        return {low, high};
    }

    // Where each row of the kernel begins to read, from its first one.
    template <class Each>
    void for_rows(const View &v, const Each &each) const {
        for (long t = 0; t < kernel[0]; t++)
            for (long h = 0; h < kernel[1]; h++)
                for (long w = 0; w < (along_rows() ? 1 : kernel[2]); w++)
                    each(t * dilation[0] * v.frame + h * dilation[1] * v.row +
                         w * dilation[2] * v.pixel);
    }

    // Numbers of a copy of what so many frames and rows of the output read.
    long copied(long frames, long rows) const {
        return read(0, frames) * read(1, rows) * (from.width + padding[2]) * inputs;
    }

    // Halves frames, then rows, until their copy has no more than `most` numbers.
    void part(long &frames, long &rows, long most) const {
        while (frames > 1 && copied(frames, rows) > most) frames = (frames + 1) / 2;
        while (rows > 1 && copied(frames, rows) > most) rows = (rows + 1) / 2;
    }

    // The frames and rows of a sample that a window reads, with zeros around: between two rows as
    // many as the kernel reads beyond one of them, and behind the last one `beyond` more.
    View copy(const Map *sample, const Window &w, long beyond, std::vector<Map> &memory) const {
        constexpr long LINE = 64 / sizeof(Map);  // of the core's cache
        const long first = w.first * stride[0] - padding[0];
        const long top = w.top * stride[1] - padding[1];
        const long rows = read(1, w.bottom - w.top);
        const long size = copied(w.last - w.first, w.bottom - w.top);
        const long before = padding[2] * inputs, inside = from.width * inputs;
        const long line = before + inside;
        beyond += before;
        memory.resize(std::max<size_t>(memory.size(), size + beyond + LINE));
        const size_t start = reinterpret_cast<size_t>(memory.data()) / sizeof(Map) % LINE;
        Map *const to = memory.data() + (LINE - start) % LINE;
        for (long row = 0; row * line < size; row++) {
            const long t = first + row / rows, h = top + row % rows;
            Map *at = std::fill_n(to + row * line, before, Map(0));
            if (t < 0 || t >= from.frames || h < 0 || h >= from.height) {
                std::fill_n(at, inside, Map(0));
                continue;
            }
            const Map *x = sample + (t * from.height + h) * from.width * pixel;
            if (pixel == inputs)
                std::copy_n(x, inside, at);
            else
                for (long i = 0; i < from.width; i++)
                    std::copy_n(x + i * pixel, inputs, at + i * inputs);
        }
        std::fill_n(to + size, beyond, Map(0));
        return {to, first, rows * line, line, inputs};
    }
};

}  // namespace
