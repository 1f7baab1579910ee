// A network in integers, as network.py hands it over, and its maps while it runs.
//
// A map's rows lie in a ring: only those that some layer still needs are kept, so that they stay in the cache. A row has
// one pixel more at each side, which holds zeros, and each pixel has its channels side by side, filled up to a multiple
// of CHANNELS_STEP with channels whose weights and scales are 0.
#ifndef P3M_NETWORK_H
#define P3M_NETWORK_H

#include "native.h"

enum { MOST_LAYERS = 128, CHANNELS_STEP = 16, LINE = 64 };

enum kind { PICTURE = 0, CONV = 1, DEPTHWISE = 2, ENLARGE = 3, POOL = 4, SUM = 5, DOUBLED = 6 };

// How values lie in memory. Bytes may count from a zero of their own. Floats are the network's output.
enum store { BYTES = 0, SHORTS = 1, FLOATS = 2 };

struct layer {
    int32_t kind;
    // Places of the sources in the list, -1 for none.
    int32_t sources[2];
    int32_t side, stride;
    int32_t channels;
    int32_t low, high;
    int32_t store, zero;
    // Packed for the instruction set; see network.py.
    const void *weights;
    const int32_t *biases;
    const float *scales;
};

struct map {
    int height, width;
    // Channels of a pixel in memory, and its bytes.
    int depth;
    size_t pixel;
    // Rows that are kept, rows that are done, rows that are made at once.
    int ring, done, batch;
    size_t row_bytes;
    // Bytes before the pixel before the first one, so that the first one begins a line of the cache.
    size_t lead;
    // The ring, and a row of zeros for what lies above and below the map.
    uint8_t *rows, *blank;
    // Of an output: (channels, height, width).
    float *planes;
};

struct network {
    const struct layer *layers;
    int count;
    struct map maps[MOST_LAYERS];
    const uint8_t *rgb;
    ptrdiff_t rgb_stride;
    int rgb_height, rgb_width;
};

// The pixel before the first one of a row, which may lie above or below the map.
static inline uint8_t *row_of(const struct map *map, int y) {
    if (y < 0 || y >= map->height)
        return map->blank + map->lead;
    return map->rows + (size_t)(y % map->ring) * map->row_bytes + map->lead;
}

// Compute `count` rows of a layer, from `first` on.
void p3m_rows_generic(const struct network *network, int layer, int first, int count);
#if P3M_X86
void p3m_rows_avx2(const struct network *network, int layer, int first, int count);
#if P3M_AVXVNNI
void p3m_rows_avxvnni(const struct network *network, int layer, int first, int count);
#endif
void p3m_rows_avx512vl(const struct network *network, int layer, int first, int count);
void p3m_rows_vnni(const struct network *network, int layer, int first, int count);
#endif
#if P3M_ARM
void p3m_rows_neon(const struct network *network, int layer, int first, int count);
#endif
#if P3M_DOTPROD
void p3m_rows_dotprod(const struct network *network, int layer, int first, int count);
#endif

#endif
