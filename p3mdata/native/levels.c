// How often each level occurs in a picture.
#include "native.h"

enum { LEVELS = 256, MOST_CHANNELS = 4 };

// Of rows x columns pixels of `channels` bytes (at most 4), rows and columns some bytes apart: adds to 256 numbers.
P3M_API void p3m_levels(int level, const uint8_t *pixels, ptrdiff_t row, ptrdiff_t column, int rows, int columns,
                        int channels, int64_t *found) {
    (void)level;
    // Channels are often alike: of each by itself, so that one count need not wait for another.
    int64_t counts[MOST_CHANNELS][LEVELS] = {{0}};
    for (int y = 0; y < rows; y++) {
        const uint8_t *pixel = pixels + y * row;
        for (int x = 0; x < columns; x++, pixel += column)
            for (int c = 0; c < channels; c++) counts[c][pixel[c]]++;
    }
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < LEVELS; i++) found[i] += counts[c][i];
}
