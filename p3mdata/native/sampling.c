// Images at other sizes: every pixel is a weighted mean of some that lie side by side, rows first, then columns.
#include "native.h"

// Weights of a row or column add up to this: a pixel times both is an integer below 2^24.
enum { ONE = 256, HALF = 1 << 15 };

// Bytes of `taps` rows, weighted, without the sign bit that they would need: -32768 stands for 0.
BODY void down_body(const uint8_t *row, ptrdiff_t stride, const int16_t *weights, int taps, ptrdiff_t count,
                    int16_t *restrict out) {
    const uint8_t *restrict a = row, *restrict b = row + stride;
    const uint16_t wa = (uint16_t)weights[0], wb = (uint16_t)weights[1];
    if (taps == 2) {
        for (ptrdiff_t i = 0; i < count; i++)
            out[i] = (int16_t)((uint16_t)(a[i] * wa + b[i] * wb) ^ 0x8000u);
        return;
    }
    const uint8_t *restrict c = row + 2 * stride, *restrict d = row + 3 * stride;
    const uint16_t wc = (uint16_t)weights[2], wd = (uint16_t)weights[3];
    for (ptrdiff_t i = 0; i < count; i++)
        out[i] = (int16_t)((uint16_t)(a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd) ^ 0x8000u);
}

KERNEL(down, (const uint8_t *row, ptrdiff_t stride, const int16_t *weights, int taps, ptrdiff_t count, int16_t *out),
       (row, stride, weights, taps, count, out))

// One row: pixel x is made of `taps` pixels of the line, the first of which begins at number place[x].
BODY void across_body(const int16_t *restrict line, const int32_t *restrict place, const int16_t *restrict weights,
                      int taps, int start, int columns, uint8_t *restrict out) {
    for (int x = start; x < columns; x++) {
        const int16_t *pixel = line + place[x], *weight = weights + (ptrdiff_t)taps * x;
        for (int channel = 0; channel < 3; channel++) {
            int32_t sum = 32768 * ONE + HALF + pixel[channel] * weight[0] + pixel[3 + channel] * weight[1];
            if (taps == 4)
                sum += pixel[6 + channel] * weight[2] + pixel[9 + channel] * weight[3];
            out[3 * (ptrdiff_t)x + channel] = (uint8_t)(sum >> 16);
        }
    }
}

static void across_generic(const int16_t *line, const int32_t *place, const int16_t *weights, int taps, int start,
                           int columns, uint8_t *out) {
    if (taps == 2)
        across_body(line, place, weights, 2, start, columns, out);
    else
        across_body(line, place, weights, 4, start, columns, out);
}

#if P3M_X86
#include <immintrin.h>

// The sums of two pixels' channels, in three of four lanes each; `pick` says which of the eight pairs of weights
// belong to the one and to the other.
FOR_AVX2 static inline __m256i sums_of(const int16_t *one, const int16_t *other, __m256i weights, __m256i pick) {
    const __m256i pairs = _mm256_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1, 0, 1, 6, 7, 2, 3, 8, 9,
                                           4, 5, 10, 11, -1, -1, -1, -1);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)one)),
                                                 _mm_loadu_si128((const __m128i *)other), 1);
    return _mm256_madd_epi16(_mm256_shuffle_epi8(both, pairs), _mm256_permutevar8x32_epi32(weights, pick));
}

FOR_AVX2 static inline void across_eight(const int16_t *line, const int32_t *place, const int16_t *weights, int taps,
                                         int columns, uint8_t *out) {
    const __m256i bias = _mm256_set1_epi32(32768 * ONE + HALF);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i three = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5, 6, 8,
                                           9, 10, 12, 13, 14, -1, -1, -1, -1);
    int x = 0;
    // Of each sixteen bytes that are written the last four are the next pixels'.
    for (; x + 10 <= columns; x += 8) {
        __m256i sums[4];
        for (int pair = 0; pair < 4; pair++) {
            const int16_t *one = line + place[x + 2 * pair], *other = line + place[x + 2 * pair + 1];
            if (taps == 2) {
                const __m256i eight = _mm256_loadu_si256((const __m256i *)(weights + 2 * (ptrdiff_t)x));
                const __m256i pick = _mm256_setr_epi32(2 * pair, 2 * pair, 2 * pair, 2 * pair, 2 * pair + 1,
                                                       2 * pair + 1, 2 * pair + 1, 2 * pair + 1);
                sums[pair] = sums_of(one, other, eight, pick);
            } else {
                const __m256i eight = _mm256_castsi128_si256(
                    _mm_loadu_si128((const __m128i *)(weights + 4 * (ptrdiff_t)(x + 2 * pair))));
                sums[pair] = sums_of(one, other, eight, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
                const __m256i more = sums_of(one + 6, other + 6, eight, _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3));
                sums[pair] = _mm256_add_epi32(sums[pair], more);
            }
            sums[pair] = _mm256_srli_epi32(_mm256_add_epi32(sums[pair], bias), 16);
        }
        const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(sums[0], sums[1]),
                                                  _mm256_packus_epi32(sums[2], sums[3]));
        const __m256i made = _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(bytes, in_order), three);
        _mm_storeu_si128((__m128i *)(out + 3 * (ptrdiff_t)x), _mm256_castsi256_si128(made));
        _mm_storeu_si128((__m128i *)(out + 3 * (ptrdiff_t)x + 12), _mm256_extracti128_si256(made, 1));
    }
    across_generic(line, place, weights, taps, x, columns, out);
}

FOR_AVX2 static void across_avx2(const int16_t *line, const int32_t *place, const int16_t *weights, int taps,
                                 int columns, uint8_t *out) {
    if (taps == 2)
        across_eight(line, place, weights, 2, columns, out);
    else
        across_eight(line, place, weights, 4, columns, out);
}
#endif

// (height, width, 3) bytes, rows `stride` bytes apart, at (rows, columns): row y is made of `taps` (2 or 4) rows from
// first_row[y] on, column x likewise; all of them are in the image, and columns from `from` to `to` hold all that are
// used. Weights (n, taps) are 0 to 256 and add up to 256. `line` has room for 3 * (to - from) + 8 numbers, `place` for
// one of each column.
P3M_API void p3m_sampled(int level, const uint8_t *rgb, ptrdiff_t stride, uint8_t *out, int rows, int columns, int taps,
                         const int32_t *first_row, const int16_t *row_weights, const int32_t *first_column,
                         const int16_t *column_weights, int from, int to, int16_t *line, int32_t *place) {
    const ptrdiff_t count = 3 * (ptrdiff_t)(to - from);
    memset(line + count, 0, 8 * sizeof *line);
    for (int x = 0; x < columns; x++)
        place[x] = 3 * (first_column[x] - from);
    for (int y = 0; y < rows; y++) {
        const uint8_t *row = rgb + stride * first_row[y] + 3 * (ptrdiff_t)from;
        uint8_t *made = out + 3 * (ptrdiff_t)columns * y;
        CALL(down, level, (row, stride, row_weights + (ptrdiff_t)taps * y, taps, count, line));
#if P3M_X86
        if (level >= AVX2) {
            across_avx2(line, place, column_weights, taps, columns, made);
            continue;
        }
#endif
        across_generic(line, place, column_weights, taps, 0, columns, made);
    }
}
