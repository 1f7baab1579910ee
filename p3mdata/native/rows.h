// Rows of each kind of layer, written once for all instruction sets. Whoever includes this defines before:
//   FN               attributes of functions for the instruction set
//   LANES            32-bit integers of a vector, 8 or 16
//   HAS_BYTES        whether convolutions of bytes have instructions of their own
//   HAS_PACKS        whether several vectors are packed and stored as one
//   ints, reals      vectors of integers and of floats
//   MOST_VECTORS     vectors of filters that a convolution computes together, and PIXELS_OF_n: for so many pixels where
//                    there are n of them, MOST_PIXELS of which is the largest
//   the functions v_* of rows_generic.c, and where it HAS_PACKS those that take the place of the ones below
//   PAIRS_APART, if pairs of shorts lie in another way than side by side: then there are also `fours`, four bytes or two
//   shorts for all lanes, which v_four_bytes gives and v_dot_bytes and v_dot_shorts take, and v_dot_first and v_dot_second,
//   where the other shorts of all pairs of `b` are 0
//
// Sums of products stay below 2^24 (network.py sees to it), so that they are exact as floats; what is rounded is one product.

#define ALWAYS static inline __attribute__((always_inline)) FN
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))

ALWAYS void v_store_nearest_shorts(uint8_t *to, reals values, int low, int high) {
    v_store_shorts(to, v_nearest(v_clip(values, (float)low, (float)high)));
}

#if !HAS_PACKS
// Where vectors are stored one by one, and bytes are taken as shorts. The last two are never called.
ALWAYS void v_store_nearest_bytes(uint8_t *to, reals values, int low, int high, int zero) {
    v_store_bytes(to, v_add(v_nearest(v_clip(values, (float)low, (float)high)), v_all(zero)));
}
ALWAYS ints v_dot_bytes(ints sum, ints a, ints b) { return v_dot(sum, a, b); }
ALWAYS ints v_byte_singles(const uint8_t *from) { return v_singles(from); }
ALWAYS ints v_byte_pairs(const uint8_t *first, const uint8_t *second) { return v_pairs(first, second); }
ALWAYS void v_store_four(uint8_t *to, const reals values[4], int low, int zero) {
    (void)to, (void)values, (void)low, (void)zero;
}
ALWAYS void v_store_two(uint8_t *to, const reals values[2], int low, int high) {
    (void)to, (void)values, (void)low, (void)high;
}
#else
ALWAYS void v_store_four(uint8_t *to, const reals values[4], int low, int zero) { v_store(to, v_pack_four(values, low, zero)); }
ALWAYS void v_store_two(uint8_t *to, const reals values[2], int low, int high) { v_store(to, v_pack_two(values, low, high)); }
#endif

#if !PAIRS_APART
typedef ints fours;
ALWAYS ints v_dot_shorts(ints sum, fours values, ints row) { return v_dot(sum, values, row); }
ALWAYS ints v_dot_first(ints sum, ints a, ints b) { return v_dot(sum, a, b); }
ALWAYS ints v_dot_second(ints sum, ints a, ints b) { return v_dot(sum, a, b); }
#endif

struct target {
    const float *scales;
    const int32_t *biases;
    int store, low, high, zero;
    uint8_t *at; // Where the first pixel's channels go.
    size_t step; // Bytes to the next one.
    float *plane;
    size_t plane_size;
    int channels; // Left in planes.
};

static struct target target_of(const struct network *network, int i, int y) {
    const struct layer *layer = &network->layers[i];
    const struct map *map = &network->maps[i];
    struct target target = {.scales = layer->scales, .biases = layer->biases, .store = layer->store};
    target.low = layer->low;
    target.high = layer->high;
    target.zero = layer->zero;
    if (layer->store == FLOATS) {
        target.plane_size = (size_t)map->height * (size_t)map->width;
        target.plane = map->planes + (size_t)y * (size_t)map->width;
        target.channels = layer->channels;
    } else {
        target.at = row_of(map, y) + map->pixel;
        target.step = map->pixel;
    }
    return target;
}

// Integers of LANES channels from `channel` on, of the pixel `x`.
ALWAYS void put(const struct target *target, int x, int channel, ints values) {
    if (target->store == BYTES)
        v_store_bytes(target->at + (size_t)x * target->step + channel, v_add(values, v_all(target->zero)));
    else
        v_store_shorts(target->at + (size_t)x * target->step + 2 * (size_t)channel, values);
}

// Floats of some pixels' LANES channels from `channel` on.
static __attribute__((noinline)) void put_floats(const float *lanes, float *plane, size_t size, int channels, int pixels) {
    for (int j = 0; j < channels; j++, plane += size)
        for (int p = 0; p < pixels; p++)
            plane[p] = lanes[p * LANES + j];
}

// A convolution's sums of F vectors of filters: scaled, rounded and kept within limits, or given as they are.
ALWAYS void put_sums(const int F, const struct target *target, int x, int channel, const ints *sums) {
    reals products[MOST_VECTORS];
#pragma GCC unroll 4
    for (int f = 0; f < F; f++)
        products[f] = v_times(v_reals(sums[f]), v_load_reals(target->scales + channel + f * LANES));
    if (target->store == FLOATS) {
        for (int f = 0; f < F; f++) {
            float lanes[LANES];
            v_store_reals(lanes, products[f]);
            const int from = channel + f * LANES;
            put_floats(lanes, target->plane + (size_t)from * target->plane_size + (size_t)x, target->plane_size,
                       SMALLER(LANES, target->channels - from), 1);
        }
        return;
    }
    if (target->store == BYTES) {
        uint8_t *to = target->at + (size_t)x * target->step + channel;
        if (HAS_PACKS && MOST_VECTORS >= 4 && F == 4)
            v_store_four(to, products, target->low, target->zero);
        else
#pragma GCC unroll 4
            for (int f = 0; f < F; f++)
                v_store_nearest_bytes(to + f * LANES, products[f], target->low, target->high, target->zero);
        return;
    }
    uint8_t *to = target->at + (size_t)x * target->step + 2 * (size_t)channel;
#pragma GCC unroll 4
    for (int f = 0; f < F; f++)
        if (HAS_PACKS && f + 1 < F) {
            v_store_two(to + 2 * f * LANES, products + f, target->low, target->high);
            f++;
        } else {
            v_store_nearest_shorts(to + 2 * f * LANES, products[f], target->low, target->high);
        }
}

#if HAS_PACKS
// Sums of P pixels of F vectors of filters as shorts, which are positive or have a sign.
ALWAYS void put_block_shorts(const int F, const int P, const int positive, const struct target *target, uint8_t *to,
                             ints sums[MOST_PIXELS][MOST_VECTORS], const reals scales[MOST_VECTORS]) {
    const size_t step = target->step;
    const int gapless = step == (size_t)F * 2 * LANES;
#pragma GCC unroll 16
    for (int v = 0; v < F * P; v += 2) {
        reals products[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++)
            products[j] = v_times(v_reals(sums[(v + j) / F][(v + j) % F]), scales[(v + j) % F]);
        const ints two = positive ? v_pack_two_positive(products, target->high)
                                  : v_pack_two(products, target->low, target->high);
        uint8_t *first = to + (size_t)(v / F) * step + (size_t)(v % F) * 2 * LANES;
        if (F % 2 == 0 || v / F == (v + 1) / F || gapless) {
            v_store(first, two);
        } else {
            v_store_half(first, two, 0);
            v_store_half(to + (size_t)((v + 1) / F) * step + (size_t)((v + 1) % F) * 2 * LANES, two, 1);
        }
    }
}

// Sums of P pixels of F vectors of filters: packed together across pixels.
ALWAYS void put_block(const int F, const int P, const struct target *target, int x, int channel,
                      ints sums[MOST_PIXELS][MOST_VECTORS]) {
    reals scales[MOST_VECTORS];
#pragma GCC unroll 4
    for (int f = 0; f < F; f++)
        scales[f] = v_load_reals(target->scales + channel + f * LANES);
    const size_t vector = target->store == BYTES ? LANES : 2 * LANES, step = target->step;
    uint8_t *to = target->at + (size_t)x * step + (size_t)channel / LANES * vector;
    const int gapless = step == (size_t)F * vector;
    if (target->store == BYTES) {
#pragma GCC unroll 16
        for (int v = 0; v < F * P; v += 4) {
            reals products[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                products[j] = v_times(v_reals(sums[(v + j) / F][(v + j) % F]), scales[(v + j) % F]);
            const ints four = v_pack_four(products, target->low, target->zero);
            if (F == 4 || gapless)
                v_store(to + (size_t)(v / F) * step + (size_t)(v % F) * LANES, four);
            else
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++)
                    v_store_quarter(to + (size_t)((v + j) / F) * step + (size_t)((v + j) % F) * LANES, four, j);
        }
    } else if (target->low == 0) {
        put_block_shorts(F, P, 1, target, to, sums, scales);
    } else {
        put_block_shorts(F, P, 0, target, to, sums, scales);
    }
}

// Two by two pixels, or four in a row, of one vector of filters: where each of them goes.
ALWAYS void put_four(const struct target *target, reals scales, const ints sums[4], uint8_t *const to[4]) {
    reals products[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        products[j] = v_times(v_reals(sums[j]), scales);
    if (target->store == BYTES) {
        const ints four = v_pack_four(products, target->low, target->zero);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            v_store_quarter(to[j], four, j);
    } else {
#pragma GCC unroll 2
        for (int j = 0; j < 4; j += 2) {
            const ints two = v_pack_two(products + j, target->low, target->high);
            v_store_half(to[j], two, 0);
            v_store_half(to[j + 1], two, 1);
        }
    }
}
#endif

ALWAYS ints get(const struct layer *layer, const uint8_t *pixel, int channel) {
    if (layer->store == BYTES)
        return v_add(v_load_bytes(pixel + channel), v_all(-layer->zero));
    return v_load_shorts(pixel + 2 * (size_t)channel);
}

struct taps {
    const uint8_t *rows[3]; // The first tap of the first pixel, of each row of the kernel.
    int down, across, groups;
    size_t step, tap; // Bytes between neighbouring pixels and between neighbouring taps.
};

// Sums of F vectors of filters for P pixels, from x on; of a row that is narrower than P for its `pixels`.
ALWAYS void conv_pixels(const int F, const int P, const int bytes, const int narrow, const struct taps *taps,
                        const uint8_t *weights, const struct target *target, int channel, int x, int pixels) {
    // Of fixed size, so that compilers keep them in registers.
    ints sums[MOST_PIXELS][MOST_VECTORS];
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int f = 0; f < F; f++)
            sums[p][f] = v_load(target->biases + channel + f * LANES);
    const size_t step = taps->step;
    size_t three = 3 * step, five = 5 * step, seven = 7 * step;
    // Four registers, whose multiples addresses hold, instead of eight: compilers shall not undo it.
    __asm__("" : "+r"(three), "+r"(five), "+r"(seven));
    for (int down = 0; down < taps->down; down++)
        for (int across = 0; across < taps->across; across++) {
            const uint8_t *tap = taps->rows[down] + (size_t)x * taps->step + (size_t)across * taps->tap;
#pragma GCC unroll 2
            for (int group = 0; group < taps->groups; group++, tap += 4) {
                ints row[MOST_VECTORS];
#pragma GCC unroll 4
                for (int f = 0; f < F; f++)
                    row[f] = v_load(weights + (size_t)f * LANES * 4);
                weights += (size_t)F * LANES * 4;
#pragma GCC unroll 16
                for (int p = 0; p < P; p++) {
                    // Those beyond the row repeat the last one, and are not put anywhere.
                    const size_t from = narrow   ? (size_t)SMALLER(p, pixels - 1) * step
                                        : p == 3 ? three
                                        : p == 5 ? five
                                        : p == 6 ? 2 * three
                                        : p == 7 ? seven
                                                 : (size_t)p * step;
                    const fours values = v_four_bytes(tap + from);
#pragma GCC unroll 4
                    for (int f = 0; f < F; f++)
                        sums[p][f] = bytes ? v_dot_bytes(sums[p][f], values, row[f]) : v_dot_shorts(sums[p][f], values, row[f]);
                }
            }
        }
    if (target->store == FLOATS) {
#pragma GCC unroll 4
        for (int f = 0; f < F; f++) {
            const reals scales = v_load_reals(target->scales + channel + f * LANES);
            const int from = channel + f * LANES;
            float lanes[MOST_PIXELS * LANES];
#pragma GCC unroll 16
            for (int p = 0; p < P; p++)
                v_store_reals(lanes + p * LANES, v_times(v_reals(sums[p][f]), scales));
            put_floats(lanes, target->plane + (size_t)from * target->plane_size + (size_t)x, target->plane_size,
                       SMALLER(LANES, target->channels - from), pixels);
        }
        return;
    }
#if HAS_PACKS
    if (!narrow && pixels == P) {
        put_block(F, P, target, x, channel, sums);
        return;
    }
#endif
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) {
        if (p < pixels)
            put_sums(F, target, x + p, channel, sums[p]);
    }
}

// Pixels at once where a row's end leaves fewer.
enum { FEW = SMALLER(MOST_PIXELS, 4) };

// P pixels of a row of P at least, from x on.
#define CONV_TILE(F, P)                                                                                                 \
    do {                                                                                                                \
        /* Compilers that know it move what is stored into the sums' registers. */                                      \
        int pixels = P;                                                                                                 \
        __asm__("" : "+r"(pixels));                                                                                     \
        /* What is left at the end goes with some that were computed before. */                                         \
        if (HAS_BYTES && bytes)                                                                                         \
            conv_pixels(F, P, 1, 0, taps, weights, target, channel, SMALLER(x, width - P), pixels);                     \
        else                                                                                                            \
            conv_pixels(F, P, 0, 0, taps, weights, target, channel, SMALLER(x, width - P), pixels);                     \
    } while (0)

#define CONV_ROW(F, P)                                                                                                  \
    FN static __attribute__((noinline)) void conv_narrow_##F(const struct taps *taps, int bytes, const uint8_t *weights, \
                                                             const struct target *target, int channel, int width) {     \
        if (HAS_BYTES && bytes)                                                                                         \
            conv_pixels(F, FEW, 1, 1, taps, weights, target, channel, 0, width);                                        \
        else                                                                                                            \
            conv_pixels(F, FEW, 0, 1, taps, weights, target, channel, 0, width);                                        \
    }                                                                                                                   \
    FN static __attribute__((noinline)) void conv_few_##F(const struct taps *taps, int bytes, const uint8_t *weights,    \
                                                          const struct target *target, int channel, int x, int width) { \
        CONV_TILE(F, FEW);                                                                                              \
    }                                                                                                                   \
    FN static void conv_row_##F(const struct taps *given_taps, int bytes, const uint8_t *weights,                        \
                                const struct target *given, int channel, int width) {                                   \
        /* Copies, which nothing that is stored may alias. */                                                           \
        const struct taps taps_here = *given_taps, *taps = &taps_here;                                                  \
        const struct target target_here = *given, *target = &target_here;                                               \
        if (width < FEW) {                                                                                              \
            conv_narrow_##F(given_taps, bytes, weights, given, channel, width);                                         \
            return;                                                                                                     \
        }                                                                                                               \
        int x = 0;                                                                                                      \
        /* As few as possible are computed twice: 10 are 4 and 6. */                                                    \
        while ((int)P > (int)FEW && x < width && (width < P || ((width - x) % P != 0 && (width - x) % P <= FEW))) {      \
            conv_few_##F(given_taps, bytes, weights, given, channel, x, width);                                         \
            x += FEW;                                                                                                   \
        }                                                                                                               \
        for (; x < width; x += P)                                                                                       \
            CONV_TILE(F, P);                                                                                            \
    }
CONV_ROW(1, PIXELS_OF_1)
CONV_ROW(2, PIXELS_OF_2)
#if MOST_VECTORS > 2
CONV_ROW(3, PIXELS_OF_3)
CONV_ROW(4, PIXELS_OF_4)
#endif

// Rows of a convolution; of one that enlarges, kernels of 2x2 are four convolutions of 1x1, each for every other pixel.
FN static void conv_rows(const struct network *network, int i, int first, int count) {
    const struct layer *layer = &network->layers[i];
    const struct layer *source_layer = &network->layers[layer->sources[0]];
    const struct map *map = &network->maps[i], *source = &network->maps[layer->sources[0]];
    const int enlarge = layer->kind == ENLARGE, picture = source_layer->kind == PICTURE;
    const int bytes = source_layer->store == BYTES, per_group = bytes ? 4 : 2;
    const int side = enlarge ? 1 : layer->side;
    // A picture's pixels lie without gaps: taps side by side are as one with more channels.
    const int run = picture ? side * source_layer->channels : source_layer->channels;
    struct taps taps = {.down = side, .across = picture ? 1 : side, .groups = (run + per_group - 1) / per_group};
    taps.tap = source->pixel;
    taps.step = source->pixel * (size_t)(enlarge ? 1 : layer->stride);
    const int vectors = map->depth / LANES, blocks = (vectors + MOST_VECTORS - 1) / MOST_VECTORS;
    const size_t one = (size_t)taps.down * (size_t)taps.across * (size_t)taps.groups * LANES * 4;
    for (int phase = 0; phase < (enlarge ? 4 : 1); phase++) {
        const uint8_t *weights = (const uint8_t *)layer->weights + (size_t)phase * (size_t)vectors * one;
        for (int block = 0, channel = 0; block < blocks; block++) {
            const int size = vectors / blocks + (block < vectors % blocks);
            for (int y = first; y < first + count; y++) {
                struct target target = target_of(network, i, y);
                int width = map->width;
                if (enlarge) {
                    if (y % 2 != phase / 2)
                        continue;
                    target.biases += (size_t)phase * (size_t)map->depth;
                    target.at += (size_t)(phase % 2) * target.step;
                    target.step *= 2;
                    width /= 2;
                }
                for (int down = 0; down < side; down++) {
                    const int above = enlarge ? y / 2 : y * layer->stride - side / 2 + down;
                    taps.rows[down] = row_of(source, above) + (size_t)(1 - side / 2) * source->pixel;
                }
                if (size == 1)
                    conv_row_1(&taps, bytes, weights, &target, channel, width);
                else if (size == 2)
                    conv_row_2(&taps, bytes, weights, &target, channel, width);
#if MOST_VECTORS > 2
                else if (size == 3)
                    conv_row_3(&taps, bytes, weights, &target, channel, width);
                else
                    conv_row_4(&taps, bytes, weights, &target, channel, width);
#endif
            }
            channel += size * LANES;
            weights += (size_t)size * one;
        }
    }
}

ALWAYS ints column_pairs(const int bytes, const uint8_t *const rows[3], size_t at) {
    return bytes ? v_byte_pairs(rows[0] + at, rows[1] + at) : v_pairs(rows[0] + at, rows[1] + at);
}

ALWAYS ints column_singles(const int bytes, const uint8_t *const rows[3], size_t at) {
    return bytes ? v_byte_singles(rows[2] + at) : v_singles(rows[2] + at);
}

// Pixels of LANES channels: of each column of three the upper two in pairs, then the lower one alone.
ALWAYS void depthwise_strip(const int bytes, const uint8_t *const rows[3], size_t pixel, int stride,
                            const int32_t *weights, const struct target *given, int channel, int begin, int end) {
    const struct target copy = *given, *target = &copy;
    const ints bias = v_load(target->biases + channel);
    ints pairs[3], singles[3];
#pragma GCC unroll 3
    for (int across = 0; across < 3; across++) {
        pairs[across] = v_load(weights + 2 * across * LANES);
        singles[across] = v_load(weights + (2 * across + 1) * LANES);
    }
    size_t at = (size_t)channel * (bytes ? 1 : 2) + (size_t)(begin * stride) * pixel;
    if (stride == 1) {
        // A column goes into the sums of the three pixels around it.
        ints left = bias, middle = bias;
        for (int x = begin - 2; x < end; x++, at += pixel) {
            const ints upper = column_pairs(bytes, rows, at), lower = column_singles(bytes, rows, at);
            const ints whole = v_dot_first(v_dot(left, upper, pairs[2]), lower, singles[2]);
            left = v_dot_first(v_dot(middle, upper, pairs[1]), lower, singles[1]);
            middle = v_dot_first(v_dot(bias, upper, pairs[0]), lower, singles[0]);
            if (x >= begin)
                put_sums(1, target, x, channel, &whole);
        }
    } else {
        int x = begin;
#if HAS_PACKS
        const reals scales = v_load_reals(target->scales + channel);
        uint8_t *to = target->at + (size_t)x * target->step + (size_t)channel * (target->store == BYTES ? 1 : 2);
        for (; target->store != FLOATS && x + 4 <= end; x += 4, to += 4 * target->step) {
            ints sums[4];
            ints upper = column_pairs(bytes, rows, at), lower = column_singles(bytes, rows, at);
#pragma GCC unroll 4
            for (int p = 0; p < 4; p++, at += 2 * pixel) {
                sums[p] = v_dot_first(v_dot(bias, upper, pairs[0]), lower, singles[0]);
#pragma GCC unroll 2
                for (int across = 1; across < 3; across++) {
                    upper = column_pairs(bytes, rows, at + (size_t)across * pixel);
                    lower = column_singles(bytes, rows, at + (size_t)across * pixel);
                    sums[p] = v_dot_first(v_dot(sums[p], upper, pairs[across]), lower, singles[across]);
                }
            }
            uint8_t *const each[4] = {to, to + target->step, to + 2 * target->step, to + 3 * target->step};
            put_four(target, scales, sums, each);
        }
#endif
        for (; x < end; x++, at += (size_t)stride * pixel) {
            ints sum = bias;
#pragma GCC unroll 3
            for (int across = 0; across < 3; across++) {
                const size_t column = at + (size_t)across * pixel;
                sum = v_dot(sum, column_pairs(bytes, rows, column), pairs[across]);
                sum = v_dot_first(sum, column_singles(bytes, rows, column), singles[across]);
            }
            put_sums(1, target, x, channel, &sum);
        }
    }
}

#if HAS_PACKS
// A column goes into the sums of the three pixels around it, of the row above and of the one below.
ALWAYS void depthwise_column(const int bytes, const uint8_t *const rows[4], size_t at, ints bias,
                             const ints weights[4][3], ints sums[4], ints *above, ints *below) {
    const ints upper = bytes ? v_byte_pairs(rows[0] + at, rows[1] + at) : v_pairs(rows[0] + at, rows[1] + at);
    const ints lower = bytes ? v_byte_pairs(rows[2] + at, rows[3] + at) : v_pairs(rows[2] + at, rows[3] + at);
    *above = v_dot_first(v_dot(sums[0], upper, weights[0][2]), lower, weights[1][2]);
    *below = v_dot(v_dot_second(sums[2], upper, weights[2][2]), lower, weights[3][2]);
    sums[0] = v_dot_first(v_dot(sums[1], upper, weights[0][1]), lower, weights[1][1]);
    sums[2] = v_dot(v_dot_second(sums[3], upper, weights[2][1]), lower, weights[3][1]);
    sums[1] = v_dot_first(v_dot(bias, upper, weights[0][0]), lower, weights[1][0]);
    sums[3] = v_dot(v_dot_second(bias, upper, weights[2][0]), lower, weights[3][0]);
}

// Two rows at once, of a stride of 1: four rows of the source are fetched for both.
ALWAYS void depthwise_two(const int bytes, const uint8_t *const given_rows[4], size_t pixel, const int32_t *packed,
                          const struct target *given, uint8_t *second, int channel, int begin, int end) {
    struct target target = *given;
    const uint8_t *const rows[4] = {given_rows[0], given_rows[1], given_rows[2], given_rows[3]};
    const ints bias = v_load(target.biases + channel);
    const reals scales = v_load_reals(target.scales + channel);
    ints weights[4][3];
#pragma GCC unroll 3
    for (int across = 0; across < 3; across++) {
        weights[0][across] = v_load(packed + 2 * across * LANES);
        weights[1][across] = v_load(packed + (2 * across + 1) * LANES);
        weights[2][across] = v_up(weights[0][across]);
        weights[3][across] = v_either(v_down(weights[0][across]), v_up(weights[1][across]));
    }
    size_t at = (size_t)channel * (bytes ? 1 : 2) + (size_t)begin * pixel;
    ints sums[4] = {bias, bias, bias, bias}, four[4];
    for (int x = 0; x < 2; x++, at += pixel)
        depthwise_column(bytes, rows, at, bias, weights, sums, four, four + 2);
    const size_t place = (size_t)begin * target.step + (size_t)channel * (target.store == BYTES ? 1 : 2);
    uint8_t *above = target.at + place, *below = second + place;
    int x = begin;
    for (; x + 2 <= end; x += 2, at += 2 * pixel, above += 2 * target.step, below += 2 * target.step) {
        depthwise_column(bytes, rows, at, bias, weights, sums, four, four + 2);
        depthwise_column(bytes, rows, at + pixel, bias, weights, sums, four + 1, four + 3);
        uint8_t *const to[4] = {above, above + target.step, below, below + target.step};
        put_four(&target, scales, four, to);
    }
    if (x < end) {
        depthwise_column(bytes, rows, at, bias, weights, sums, four, four + 2);
        put_sums(1, &target, x, channel, four);
        target.at = second;
        put_sums(1, &target, x, channel, four + 2);
    }
}

FN static void depthwise_two_shorts(const uint8_t *const rows[4], size_t pixel, const int32_t *weights,
                                    const struct target *target, uint8_t *second, int channel, int begin, int end) {
    depthwise_two(0, rows, pixel, weights, target, second, channel, begin, end);
}

FN static void depthwise_two_bytes(const uint8_t *const rows[4], size_t pixel, const int32_t *weights,
                                   const struct target *target, uint8_t *second, int channel, int begin, int end) {
    depthwise_two(1, rows, pixel, weights, target, second, channel, begin, end);
}

FN static void depthwise_rows(const struct network *network, int i, int y) {
    const struct layer *layer = &network->layers[i];
    const struct map *map = &network->maps[i], *source = &network->maps[layer->sources[0]];
    const struct target target = target_of(network, i, y);
    uint8_t *second = row_of(map, y + 1) + map->pixel;
    const uint8_t *const rows[4] = {row_of(source, y - 1), row_of(source, y), row_of(source, y + 1), row_of(source, y + 2)};
    const int fitting = (int)((size_t)65536 / (4 * source->pixel)), strip = fitting < 8 ? 8 : fitting;
    const int bytes = network->layers[layer->sources[0]].store == BYTES;
    for (int begin = 0; begin < map->width; begin += strip)
        for (int channel = 0; channel < map->depth; channel += LANES)
            (bytes ? depthwise_two_bytes : depthwise_two_shorts)(
                rows, source->pixel, (const int32_t *)layer->weights + 6 * (size_t)channel, &target, second, channel, begin,
                SMALLER(begin + strip, map->width));
}
#endif

FN static void depthwise_shorts(const uint8_t *const rows[3], size_t pixel, int stride, const int32_t *weights,
                                const struct target *target, int channel, int begin, int end) {
    depthwise_strip(0, rows, pixel, stride, weights, target, channel, begin, end);
}

FN static void depthwise_bytes(const uint8_t *const rows[3], size_t pixel, int stride, const int32_t *weights,
                               const struct target *target, int channel, int begin, int end) {
    depthwise_strip(HAS_BYTES, rows, pixel, stride, weights, target, channel, begin, end);
}

FN static void depthwise_row(const struct network *network, int i, int y) {
    const struct layer *layer = &network->layers[i];
    const struct map *map = &network->maps[i], *source = &network->maps[layer->sources[0]];
    const struct target target = target_of(network, i, y);
    const uint8_t *const rows[3] = {
        row_of(source, y * layer->stride - 1),
        row_of(source, y * layer->stride),
        row_of(source, y * layer->stride + 1),
    };
    // So many pixels that all their channels stay near.
    const int fitting = (int)((size_t)65536 / (3 * source->pixel)) / layer->stride, strip = fitting < 8 ? 8 : fitting;
    const int bytes = network->layers[layer->sources[0]].store == BYTES;
    for (int begin = 0; begin < map->width; begin += strip)
        for (int channel = 0; channel < map->depth; channel += LANES)
            (bytes ? depthwise_bytes : depthwise_shorts)(
                rows, source->pixel, layer->stride, (const int32_t *)layer->weights + 6 * (size_t)channel, &target, channel,
                begin, SMALLER(begin + strip, map->width));
}

#if HAS_PACKS
// As below where all is stored in the same way, without making 32 bits of it; 0 where it is not.
FN static int joined_row_stored(const struct network *network, int i, int y) {
    const struct layer *layer = &network->layers[i], *first = &network->layers[layer->sources[0]];
    const struct layer *second = layer->kind == POOL ? first : &network->layers[layer->sources[1]];
    const struct map *map = &network->maps[i], *source = &network->maps[layer->sources[0]];
    if (layer->store == FLOATS || first->store != layer->store || second->store != layer->store ||
        first->zero != layer->zero || second->zero != layer->zero || source->pixel != map->pixel)
        return 0;
    uint8_t *to = row_of(map, y) + map->pixel;
    const size_t pixel = map->pixel, size = (size_t)map->width * pixel;
    if (layer->kind == POOL) {
        const uint8_t *upper = row_of(source, 2 * y) + pixel, *lower = row_of(source, 2 * y + 1) + pixel;
        const int bytes = layer->store == BYTES;
        for (const uint8_t *end = to + size; to < end; upper += pixel, lower += pixel)
            for (size_t at = 0; at < pixel; at += CHANNELS_STEP, to += CHANNELS_STEP) {
                v_store_largest(to, upper, upper + pixel, lower, lower + pixel, bytes);
                upper += CHANNELS_STEP;
                lower += CHANNELS_STEP;
            }
        return 1;
    }
    // Adding bytes keeps sums within these alone.
    if (layer->kind != SUM ||
        (layer->store == BYTES && (layer->low == 0 ? layer->high != 255 : layer->high != 127)))
        return 0;
    const uint8_t *one = row_of(source, y) + pixel, *two = row_of(&network->maps[layer->sources[1]], y) + pixel;
    // Pixels lie without gaps.
    for (size_t at = 0; at < size; at += 4 * LANES) {
        const ints a = v_load(one + at), b = v_load(two + at);
        const ints sum = layer->store == SHORTS ? v_sum_shorts(a, b, layer->low, layer->high)
                         : layer->low == 0      ? v_sum_positive(a, b)
                                                : v_sum_signed(a, b, layer->low);
        v_store_first(to + at, sum, size - at);
    }
    return 1;
}
#endif

// The largest of 2x2, or a sum of two layers, of which the first may have half the size.
FN static void joined_row(const struct network *network, int i, int y) {
    const struct layer *layer = &network->layers[i], *first = &network->layers[layer->sources[0]];
    const struct map *map = &network->maps[i], *source = &network->maps[layer->sources[0]];
    const struct target target = target_of(network, i, y);
    const ints low = v_all(layer->low), high = v_all(layer->high);
    if (layer->kind == POOL) {
        const uint8_t *upper = row_of(source, 2 * y) + source->pixel, *lower = row_of(source, 2 * y + 1) + source->pixel;
        for (int x = 0; x < map->width; x++, upper += 2 * source->pixel, lower += 2 * source->pixel)
            for (int channel = 0; channel < map->depth; channel += LANES)
                put(&target, x, channel,
                    v_larger(v_larger(get(first, upper, channel), get(first, upper + source->pixel, channel)),
                             v_larger(get(first, lower, channel), get(first, lower + source->pixel, channel))));
        return;
    }
    const struct layer *second = &network->layers[layer->sources[1]];
    const struct map *other = &network->maps[layer->sources[1]];
    const int doubled = layer->kind == DOUBLED;
    const uint8_t *one = row_of(source, doubled ? y / 2 : y) + source->pixel, *two = row_of(other, y) + other->pixel;
    for (int x = 0; x < map->width; x++, two += other->pixel)
        for (int channel = 0; channel < map->depth; channel += LANES) {
            const ints sum = v_add(get(first, one + (size_t)(doubled ? x / 2 : x) * source->pixel, channel),
                                   get(second, two, channel));
            put(&target, x, channel, v_larger(v_smaller(sum, high), low));
        }
}

FN static void picture_row(const struct network *network, int i, int y) {
    const struct map *map = &network->maps[i];
    int16_t *restrict row = (int16_t *)(row_of(map, y) + map->pixel);
    int values = 0;
    if (y < network->rgb_height) {
        const uint8_t *restrict rgb = network->rgb + y * network->rgb_stride;
        values = 3 * network->rgb_width;
        for (int v = 0; v < values; v++)
            row[v] = rgb[v];
    }
    memset(row + values, 0, (size_t)(3 * map->width - values) * 2);
}

FN void ROWS(const struct network *network, int i, int first, int count) {
    const int kind = network->layers[i].kind;
    if (kind == CONV || kind == ENLARGE) {
        conv_rows(network, i, first, count);
        return;
    }
    int y = first;
#if HAS_PACKS
    if (kind == DEPTHWISE && network->layers[i].stride == 1 && network->layers[i].store != FLOATS)
        for (; y + 2 <= first + count; y += 2)
            depthwise_rows(network, i, y);
#endif
    for (; y < first + count; y++) {
        if (kind == PICTURE)
            picture_row(network, i, y);
        else if (kind == DEPTHWISE)
            depthwise_row(network, i, y);
#if HAS_PACKS
        else if (joined_row_stored(network, i, y))
            continue;
#endif
        else
            joined_row(network, i, y);
    }
}
