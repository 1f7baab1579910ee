// The filters of PNG (ISO/IEC 15948, clause 9) undone.
#include "native.h"

enum { NONE, SUB, UP, AVERAGE, PAETH };

// The neighbour - left, above, or above left - that is nearest to what a plane through all three comes to.
static inline int paeth(int left, int up, int corner) {
    int along = up - corner, down = left - corner, both = along + down;
    along = along < 0 ? -along : along;
    down = down < 0 ? -down : down;
    both = both < 0 ? -both : both;
    return along <= down && along <= both ? left : down <= both ? up : corner;
}

// The row above the first one is 0, and so is what lies left of a row.
static void undo(int filter, const uint8_t *restrict from, const uint8_t *restrict above, ptrdiff_t size, int step,
                 uint8_t *restrict row) {
    uint8_t last = 0;
    switch (filter) {
    case NONE:
        memcpy(row, from, (size_t)size);
        break;
    case SUB:
        if (step == 1)
            for (ptrdiff_t i = 0; i < size; i++) row[i] = last = (uint8_t)(last + from[i]);
        else
            for (ptrdiff_t i = 0; i < size; i++) row[i] = (uint8_t)(from[i] + (i < step ? 0 : row[i - step]));
        break;
    case UP:
        for (ptrdiff_t i = 0; i < size; i++) row[i] = (uint8_t)(from[i] + above[i]);
        break;
    case AVERAGE:
        for (ptrdiff_t i = 0; i < size; i++) {
            int left = i < step ? 0 : row[i - step];
            row[i] = (uint8_t)(from[i] + ((left + above[i]) >> 1));
        }
        break;
    default:
        for (ptrdiff_t i = 0; i < size; i++) {
            int left = i < step ? 0 : row[i - step], corner = i < step ? 0 : above[i - step];
            row[i] = (uint8_t)(from[i] + paeth(left, above[i], corner));
        }
    }
}

// Bytes of pixels, `rows` times `size`, of as many filtered rows of 1 + `size` bytes; `zeros` are `size` bytes of 0,
// and `step` are the bytes of a pixel. Tells how many rows were undone: fewer where a filter is unknown.
P3M_API ptrdiff_t p3m_unfilter(int level, const uint8_t *filtered, ptrdiff_t rows, ptrdiff_t size, int step,
                               const uint8_t *zeros, uint8_t *pixels) {
    (void)level;
    const uint8_t *above = zeros;
    for (ptrdiff_t y = 0; y < rows; y++, filtered += 1 + size, above = pixels, pixels += size) {
        if (*filtered > PAETH) return y;
        undo(*filtered, filtered + 1, above, size, step, pixels);
    }
    return rows;
}
