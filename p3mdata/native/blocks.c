// Quantised JPEG coefficients of some blocks of a picture.
#include "native.h"

enum { SIDE = 8, COEFS = 64, MOST_STEP = 4, RUN = 512 };

typedef int32_t Ints __attribute__((vector_size(32)));
typedef double Reals __attribute__((vector_size(64)));

// What does not differ between the blocks of a component.
typedef struct {
    const uint8_t *pixels;
    ptrdiff_t stride;
    int height, width, channels;
    int tall, wide;
    const int32_t *colour;
    const int16_t *cosines;
    const double *divisors, *lowest, *highest;
} Part;

// The values of the component in one row of pixels.
BODY void row_of(const uint8_t *restrict row, int channels, const int32_t *restrict colour, int count,
                 int32_t *restrict values) {
    const int32_t red = colour[0], green = colour[1], blue = colour[2], more = colour[3];
    if (channels == 1)
        for (int x = 0; x < count; x++)
            values[x] = row[x];
    else
        for (int x = 0; x < count; x++)
            values[x] = (red * row[3 * x] + green * row[3 * x + 1] + blue * row[3 * x + 2] + more) >> 16;
}

// Samples of some blocks side by side, means of `tall` x `wide` values rounded halves up, and 128 less: eight rows of
// RUN. Pixels beyond the picture are its last row's and column's.
BODY void samples_of(const Part *part, int top, int left, int columns, int tall, int wide, int32_t *restrict samples) {
    const int count = tall * wide, across = columns * wide;
    const int inside = part->width - left < across ? part->width - left : across;
    int32_t values[RUN], sums[RUN];
    for (int y = 0; y < SIDE; y++) {
        for (int down = 0; down < tall; down++) {
            const int row = top + y * tall + down;
            const uint8_t *pixels = part->pixels + part->stride * (row < part->height ? row : part->height - 1);
            row_of(pixels + part->channels * (ptrdiff_t)left, part->channels, part->colour, inside, values);
            for (int x = inside; x < across; x++)
                values[x] = values[inside - 1];
            if (down == 0)
                memcpy(sums, values, (size_t)across * sizeof *sums);
            else
                for (int x = 0; x < across; x++)
                    sums[x] += values[x];
        }
        int32_t *restrict made = samples + RUN * y;
        for (int x = 0; x < columns; x++) {
            int32_t sum = sums[x * wide];
            for (int k = 1; k < wide; k++)
                sum += sums[x * wide + k];
            made[x] = (sum + count / 2) / count - 128;
        }
    }
}

// The transform, whose integers 64-bit floats hold exactly, and the division, rounded halves away from zero.
BODY void coefficients_of(const Part *part, const int32_t *restrict samples, int16_t *restrict out) {
    Ints cosines[SIDE];
    Reals half[SIDE];
    double sums[COEFS];
    for (int x = 0; x < SIDE; x++)
        for (int u = 0; u < SIDE; u++)
            cosines[x][u] = part->cosines[SIDE * x + u];
    for (int y = 0; y < SIDE; y++) {
        Ints row = cosines[0] * samples[RUN * y];
        for (int x = 1; x < SIDE; x++)
            row += cosines[x] * samples[RUN * y + x];
        half[y] = __builtin_convertvector(row, Reals);
    }
    for (int v = 0; v < SIDE; v++) {
        Reals row = half[0] * (double)part->cosines[v];
        for (int y = 1; y < SIDE; y++)
            row += half[y] * (double)part->cosines[SIDE * y + v];
        memcpy(sums + SIDE * v, &row, sizeof row);
    }
    const double *restrict divisors = part->divisors, *restrict lowest = part->lowest, *restrict highest = part->highest;
    for (int i = 0; i < COEFS; i++) {
        double value = (sums[i] + __builtin_copysign(0.5 * divisors[i], sums[i])) / divisors[i];
        value = value < lowest[i] ? lowest[i] : value;
        value = value > highest[i] ? highest[i] : value;
        out[i] = (int16_t)(int32_t)value;
    }
}

BODY void blocks_body(const Part *part, const int32_t *places, ptrdiff_t count, int16_t *out) {
    int32_t samples[SIDE * RUN];
    const ptrdiff_t most = RUN / (SIDE * part->wide);
    for (ptrdiff_t i = 0, run; i < count; i += run) {
        const int32_t *place = places + 2 * i;
        for (run = 1; run < most && i + run < count && place[2 * run] == place[0] && place[2 * run + 1] == place[1] + run;)
            run++;
        const int top = place[0] * SIDE * part->tall, left = place[1] * SIDE * part->wide, columns = SIDE * (int)run;
        if (part->tall == 1 && part->wide == 1)
            samples_of(part, top, left, columns, 1, 1, samples);
        else if (part->tall == 2 && part->wide == 2)
            samples_of(part, top, left, columns, 2, 2, samples);
        else
            samples_of(part, top, left, columns, part->tall, part->wide, samples);
        for (ptrdiff_t k = 0; k < run; k++)
            coefficients_of(part, samples + SIDE * k, out + COEFS * (i + k));
    }
}

KERNEL(blocks, (const Part *part, const int32_t *places, ptrdiff_t count, int16_t *out), (part, places, count, out))

// Coefficients (count, 64) of the blocks at `places` (count, 2: row, column) of one component, each of whose samples is
// the mean of `tall` x `wide` (at most 4 x 4) pixels. Pixels are (height, width, channels), 1 or 3 bytes, rows `stride`
// bytes apart; all blocks begin in them. A component is colour[0..2] times the bytes plus colour[3], over 65536, not
// negative; of one byte it is the byte. `cosines` (8, 8) are the transform's, frequencies side by side.
P3M_API void p3m_blocks(int level, const uint8_t *pixels, ptrdiff_t stride, int height, int width, int channels,
                        int tall, int wide, const int32_t *colour, const int16_t *cosines, const double *divisors,
                        const double *lowest, const double *highest, const int32_t *places, ptrdiff_t count,
                        int16_t *out) {
    const Part part = {pixels, stride, height, width, channels, tall, wide, colour, cosines, divisors, lowest, highest};
    CALL(blocks, level, (&part, places, count, out));
}
