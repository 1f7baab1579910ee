// Runs a network row by row: as soon as rows are made, what can be made of them is made, down to the outputs.
#include "network.h"

typedef void (*rows_function)(const struct network *, int, int, int);

// Pixels that a layer makes at once at least, so that its weights are fetched for many.
enum { PIXELS_AT_ONCE = 32 };

static size_t lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

// The first and the last row of source `which` that row y is made of.
static int first_needed(const struct layer *layer, int which, int y) {
    switch (layer->kind) {
    case CONV:
    case DEPTHWISE: {
        const int first = y * layer->stride - layer->side / 2;
        return first < 0 ? 0 : first;
    }
    case ENLARGE:
        return y / 2;
    case POOL:
        return 2 * y;
    case DOUBLED:
        return which == 0 ? y / 2 : y;
    default:
        return y;
    }
}

static int last_needed(const struct layer *layer, int which, int y, int source_height) {
    int last = first_needed(layer, which, y);
    if (layer->kind == CONV || layer->kind == DEPTHWISE)
        last = y * layer->stride + layer->side / 2;
    else if (layer->kind == POOL)
        last = 2 * y + 1;
    return last < source_height ? last : source_height - 1;
}

// Sizes of all maps for a picture of some size; 0 if they do not fit together.
static int measure(struct network *network, int height, int width) {
    for (int i = 0; i < network->count; i++) {
        const struct layer *layer = &network->layers[i];
        struct map *map = &network->maps[i];
        map->height = height;
        map->width = width;
        if (layer->kind != PICTURE) {
            for (int s = 0; s < 2; s++)
                if (layer->sources[s] >= i || (s == 0 && layer->sources[s] < 0))
                    return 0;
            const struct map *source = &network->maps[layer->sources[0]];
            map->height = source->height;
            map->width = source->width;
            if (layer->kind == CONV || layer->kind == DEPTHWISE) {
                map->height = (source->height - 1) / layer->stride + 1;
                map->width = (source->width - 1) / layer->stride + 1;
            } else if (layer->kind == POOL) {
                map->height /= 2;
                map->width /= 2;
            } else if (layer->kind == ENLARGE || layer->kind == DOUBLED) {
                map->height *= 2;
                map->width *= 2;
            }
            if (layer->kind == SUM || layer->kind == DOUBLED) {
                if (layer->sources[1] < 0)
                    return 0;
                const struct map *other = &network->maps[layer->sources[1]];
                if (other->height != map->height || other->width != map->width)
                    return 0;
            }
        }
        if (map->height < 1 || map->width < 1)
            return 0;
        const int whole = (layer->channels + CHANNELS_STEP - 1) / CHANNELS_STEP * CHANNELS_STEP;
        map->depth = layer->kind == PICTURE ? layer->channels : whole;
        map->pixel = (size_t)map->depth * (layer->store == BYTES ? 1 : 2);
        // Whatever reads whole vectors may read past the last pixel.
        map->lead = lines(map->pixel) - map->pixel;
        map->row_bytes = lines(map->lead + ((size_t)map->width + 2) * map->pixel + LINE);
        map->batch = (PIXELS_AT_ONCE + map->width - 1) / map->width;
        // Two rows share what they are made of.
        if (layer->kind == DEPTHWISE && layer->stride == 1 && map->batch % 2 != 0)
            map->batch++;
        map->done = 0;
    }
    return 1;
}

// How many rows, up to a batch, can be made of what is done.
static int possible(const struct network *network, int i) {
    const struct layer *layer = &network->layers[i];
    const struct map *map = &network->maps[i];
    int most = map->height - map->done;
    if (most > map->batch)
        most = map->batch;
    int all_done = 1;
    for (int s = 0; s < 2; s++) {
        if (layer->sources[s] < 0)
            continue;
        const struct map *source = &network->maps[layer->sources[s]];
        if (source->done < source->height)
            all_done = 0;
        while (most > 0 && last_needed(layer, s, map->done + most - 1, source->height) >= source->done)
            most--;
    }
    return most == map->batch || all_done ? most : 0;
}

// The first row of a map that some layer still needs.
static int still_needed(const struct network *network, int i) {
    int first = network->maps[i].height;
    for (int c = i + 1; c < network->count; c++) {
        const struct layer *layer = &network->layers[c];
        const struct map *map = &network->maps[c];
        for (int s = 0; s < 2; s++)
            if (layer->sources[s] == i && map->done < map->height) {
                const int row = first_needed(layer, s, map->done);
                first = row < first ? row : first;
            }
    }
    return first;
}

// Make rows of a layer as long as there are some to be made, and of those behind it. Without a function rings are measured.
static void advance(struct network *network, int i, rows_function rows) {
    struct map *map = &network->maps[i];
    int count;
    while ((count = possible(network, i)) > 0) {
        if (rows != NULL) {
            rows(network, i, map->done, count);
        } else {
            const int needed = still_needed(network, i);
            const int kept = map->done + count - (needed < map->done ? needed : map->done);
            map->ring = kept > map->ring ? kept : map->ring;
        }
        map->done += count;
        for (int c = i + 1; c < network->count; c++)
            if (network->layers[c].sources[0] == i || network->layers[c].sources[1] == i)
                advance(network, c, rows);
    }
}

// Bytes of memory that a run on a picture of this size needs; how many rows each layer keeps meanwhile; and height and
// width of each. 0 if the layers do not fit together.
P3M_API int64_t p3m_network_plan(const struct layer *layers, int count, int height, int width, int32_t *rings,
                                 int32_t *sides) {
    struct network network = {.layers = layers, .count = count};
    if (count < 1 || count > MOST_LAYERS || layers[0].kind != PICTURE || !measure(&network, height, width))
        return 0;
    advance(&network, 0, NULL);
    size_t size = LINE;
    for (int i = 0; i < count; i++) {
        const struct map *map = &network.maps[i];
        if (map->done != map->height)
            return 0;
        rings[i] = map->ring;
        sides[2 * i] = map->height;
        sides[2 * i + 1] = map->width;
        if (layers[i].store != FLOATS)
            size += ((size_t)map->ring + 1) * map->row_bytes;
    }
    return (int64_t)size;
}

static void fill(const struct layer *layer, uint8_t *at, size_t bytes) {
    // Shorts count from 0 always.
    memset(at, layer->store == BYTES ? layer->zero : 0, bytes);
}

static rows_function rows_of(int level) {
#if P3M_X86
    if (level >= VNNI)
        return p3m_rows_vnni;
    if (level == AVXVNNI) {
#if P3M_AVXVNNI
        if (!p3m_has_avx512())
            return p3m_rows_avxvnni;
#endif
        return p3m_rows_avx512vl;
    }
    if (level == AVX2)
        return p3m_rows_avx2;
#else
#if P3M_DOTPROD
    if (level >= DOTPROD)
        return p3m_rows_dotprod;
#endif
#if P3M_ARM
    if (level >= NEON)
        return p3m_rows_neon;
#endif
    (void)level;
#endif
    return p3m_rows_generic;
}

// The outputs of a network for a picture.
//
// rgb: (height, width, 3), rows `stride` bytes apart, filled up with zeros to (filled_height, filled_width).
// rings, memory, size: as p3m_network_plan gave them for the filled size.
// outputs: (channels, height, width) of each output, in their order.
//
// Returns 0, or 1 where something does not fit together.
P3M_API int p3m_network_run(int level, const struct layer *layers, int count, const int32_t *rings, const uint8_t *rgb,
                            ptrdiff_t stride, int height, int width, int filled_height, int filled_width,
                            uint8_t *memory, int64_t size, float *const *outputs) {
    struct network network = {.layers = layers, .count = count, .rgb = rgb, .rgb_stride = stride};
    network.rgb_height = height;
    network.rgb_width = width;
    if (count < 1 || count > MOST_LAYERS || size < LINE || !measure(&network, filled_height, filled_width))
        return 1;
    uint8_t *const end = memory + size;
    memory += (LINE - (uintptr_t)memory % LINE) % LINE;
    for (int i = 0; i < count; i++) {
        struct map *map = &network.maps[i];
        if (layers[i].store == FLOATS) {
            map->planes = *outputs++;
            continue;
        }
        map->ring = rings[i];
        if (map->ring < 1 || (size_t)(end - memory) < ((size_t)map->ring + 1) * map->row_bytes)
            return 1;
        map->blank = memory;
        map->rows = memory + map->row_bytes;
        memory = map->rows + (size_t)map->ring * map->row_bytes;
        fill(&layers[i], map->blank, map->row_bytes);
        const size_t filled = map->lead + ((size_t)map->width + 1) * map->pixel;
        for (int y = 0; y < map->ring; y++) {
            uint8_t *row = map->rows + (size_t)y * map->row_bytes;
            fill(&layers[i], row, map->lead + map->pixel);
            fill(&layers[i], row + filled, map->row_bytes - filled);
        }
    }
    advance(&network, 0, rows_of(level));
    return 0;
}
