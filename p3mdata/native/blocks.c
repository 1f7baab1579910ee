// Blocks of 8x8 samples made of pixels, transformed and quantised. All sums are of integers that their types hold, so
// that no order of them and no instruction set can make a difference; the one division is rounded as IEEE says.
#include "native.h"

enum { SIDE = 8, SAMPLES = 64, MOST = 4, WEIGHT_BITS = 16 };

// A row of a block; compilers make of them what an instruction set has.
typedef double Doubles __attribute__((vector_size(SIDE * sizeof(double))));
typedef int32_t Ints __attribute__((vector_size(SIDE * sizeof(int32_t))));

// A component's value of a pixel.
BODY int32_t level_of(const uint8_t *pixel, int values, const int32_t *weights) {
    if (values == 1) return pixel[0];
    return (weights[0] * pixel[0] + weights[1] * pixel[1] + weights[2] * pixel[2] + weights[3]) >> WEIGHT_BITS;
}

// Samples of one component in the block at `row`, `column`, less 128: means of `down` x `across` pixels, halves up; the
// last pixels repeat beyond the picture.
BODY void samples_of(const uint8_t *pixels, ptrdiff_t stride, int height, int width, int values, const int32_t *weights,
                     int down, int across, int row, int column, int32_t *restrict samples) {
    const int top = row * SIDE * down, left = column * SIDE * across, count = down * across, wide = SIDE * across;
    for (int y = 0; y < SIDE; y++) {
        int32_t total[SIDE * MOST] = {0};
        for (int i = 0; i < down; i++) {
            const int at = top + y * down + i;
            const uint8_t *line = pixels + (at < height ? at : height - 1) * stride;
            if (left + wide <= width) {
                const uint8_t *first = line + (size_t)left * (size_t)values;
                for (int x = 0; x < wide; x++) total[x] += level_of(first + x * values, values, weights);
            } else {
                for (int x = 0; x < wide; x++) {
                    const int place = left + x < width ? left + x : width - 1;
                    total[x] += level_of(line + (size_t)place * (size_t)values, values, weights);
                }
            }
        }
        int32_t *restrict out = samples + y * SIDE;
        if (across == 1) {
            for (int x = 0; x < SIDE; x++) out[x] = total[x];
        } else if (across == 2) {
            for (int x = 0; x < SIDE; x++) out[x] = total[2 * x] + total[2 * x + 1];
        } else {
            for (int x = 0; x < SIDE; x++) {
                out[x] = 0;
                for (int k = 0; k < across; k++) out[x] += total[x * across + k];
            }
        }
    }
    if (count == 4) {
        for (int i = 0; i < SAMPLES; i++) samples[i] = ((samples[i] + 2) >> 2) - 128;
    } else {
        for (int i = 0; i < SAMPLES; i++) samples[i] = (samples[i] + count / 2) / count - 128;
    }
}

// `across` and `down` are the cosines for the two directions, `across` as its transpose.
BODY void transformed(const int32_t *restrict samples, const int32_t *restrict across, const double *restrict down,
                      const double *restrict divisors, const double *restrict halves, const double *restrict lowest,
                      const double *restrict highest, int16_t *restrict out) {
    Doubles rows[SIDE];
    for (int y = 0; y < SIDE; y++) {
        Ints line = {0};
        for (int x = 0; x < SIDE; x++) {
            Ints cosines;
            memcpy(&cosines, across + x * SIDE, sizeof cosines);
            line += samples[y * SIDE + x] * cosines;
        }
        rows[y] = __builtin_convertvector(line, Doubles);
    }
    double sums[SAMPLES];
    for (int u = 0; u < SIDE; u++) {
        Doubles line = {0};
        for (int y = 0; y < SIDE; y++) line += down[u * SIDE + y] * rows[y];
        memcpy(sums + u * SIDE, &line, sizeof line);
    }
    for (int i = 0; i < SAMPLES; i++) {
        double value = (sums[i] + (sums[i] < 0 ? -halves[i] : halves[i])) / divisors[i];
        value = value < lowest[i] ? lowest[i] : value;
        value = value > highest[i] ? highest[i] : value;
        out[i] = (int16_t)(int32_t)value;
    }
}

BODY void quantise_body(const uint8_t *pixels, ptrdiff_t stride, int height, int width, int values,
                        const int32_t *weights, int down, int across, int rows, int columns, const uint8_t *chosen,
                        const int32_t *cosines, const double *divisors, const double *lowest, const double *highest,
                        int16_t *out) {
    int32_t samples[SAMPLES], transposed[SAMPLES];
    double exact[SAMPLES], halves[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        transposed[i] = cosines[i % SIDE * SIDE + i / SIDE];
        exact[i] = cosines[i];
        halves[i] = divisors[i] / 2;
    }
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            if (!chosen[(size_t)y * (size_t)columns + (size_t)x]) continue;
            if (values == 3 && down == 1 && across == 1)
                samples_of(pixels, stride, height, width, 3, weights, 1, 1, y, x, samples);
            else if (values == 3 && down == 2 && across == 2)
                samples_of(pixels, stride, height, width, 3, weights, 2, 2, y, x, samples);
            else
                samples_of(pixels, stride, height, width, values, weights, down, across, y, x, samples);
            transformed(samples, transposed, exact, divisors, halves, lowest, highest, out);
            out += SAMPLES;
        }
}

KERNEL(quantise,
       (const uint8_t *pixels, ptrdiff_t stride, int height, int width, int values, const int32_t *weights, int down,
        int across, int rows, int columns, const uint8_t *chosen, const int32_t *cosines, const double *divisors,
        const double *lowest, const double *highest, int16_t *out),
       (pixels, stride, height, width, values, weights, down, across, rows, columns, chosen, cosines, divisors, lowest,
        highest, out))

// Quantised coefficients of the chosen ones of rows x columns blocks of a component, one after another. Its values are
// `weights` of a pixel's three bytes and an offset, in units of 2^-16, or the one byte of a grey pixel; `down` x `across`
// pixels, at most 4 x 4, make a sample. `cosines` are the 8x8 integers of the transform, `divisors` what its sums are
// divided by, rounding halves away from zero; results are kept between `lowest` and `highest`.
P3M_API void p3m_quantise(int level, const uint8_t *pixels, ptrdiff_t stride, int height, int width, int values,
                          const int32_t *weights, int down, int across, int rows, int columns, const uint8_t *chosen,
                          const int32_t *cosines, const double *divisors, const double *lowest, const double *highest,
                          int16_t *out) {
    CALL(quantise, level,
         (pixels, stride, height, width, values, weights, down, across, rows, columns, chosen, cosines, divisors, lowest,
          highest, out));
}

// Exchanges the chosen ones of rows x columns blocks, whose rows are `stride` bytes apart, with those that `others` has
// one after another.
P3M_API void p3m_exchange(int level, uint8_t *plane, ptrdiff_t stride, int rows, int columns, const uint8_t *chosen,
                          uint8_t *others) {
    (void)level;
    enum { BYTES = SAMPLES * sizeof(int16_t) };
    uint8_t kept[BYTES];
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            if (!chosen[(size_t)y * (size_t)columns + (size_t)x]) continue;
            uint8_t *block = plane + y * stride + (ptrdiff_t)x * BYTES;
            memcpy(kept, block, BYTES);
            memcpy(block, others, BYTES);
            memcpy(others, kept, BYTES);
            others += BYTES;
        }
}
