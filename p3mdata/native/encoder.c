// Coefficients of sequential JPEG files coded, to the bytes that libjpeg writes.
#include "native.h"

enum { SIDE = 8, COEFS = 64, PARTS = 3, MOST_AC = 10, NO_CODE = 128, BLOCK_BYTES = 512 };

typedef struct {
    // Blocks of a unit, down and across; and rows and columns of blocks that show a part of the picture.
    int32_t tall, wide, rows, columns;
    // Coefficients (rows, columns, 64), rows of blocks `stride` bytes apart.
    const int16_t *coefs;
    int64_t stride;
    // Of each symbol of DC and AC: its code, and below that in eight bits how many bits that has, and NO_CODE too
    // where it has none.
    const uint32_t *dc, *ac;
} Part;

typedef struct {
    int32_t height, width, parts;
    uint8_t *out;
    int64_t size;
    // Memory to work in.
    uint8_t *memory;
    int64_t room;
    Part part[PARTS];
} Job;

#if P3M_X86
#include <immintrin.h>

// Without which no processor counts as one with AVX2: processor.h.
#define FOR_BITS __attribute__((target("avx2,fma,bmi,bmi2,lzcnt")))
#define INLINE FOR_BITS static inline __attribute__((always_inline))

static const uint8_t NATURAL[COEFS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// Bits that are written: whole bytes are in memory, and at most seven bits are not, on top of the others.
typedef struct {
    uint64_t bits;
    int count;
    uint8_t *to, *end;
} Writer;

// At most 57 bits, of which none is set above them.
INLINE void put(Writer *writer, uint64_t bits, int count) {
    writer->count += count;
    writer->bits |= bits << (64 - writer->count);
    const uint64_t stored = __builtin_bswap64(writer->bits);
    memcpy(writer->to, &stored, sizeof stored);
    writer->to += writer->count >> 3;
    writer->bits <<= writer->count & 56;
    writer->count &= 7;
}

INLINE uint32_t put_value(Writer *writer, const uint32_t *codes, int symbol, int size, int value) {
    const uint32_t code = codes[symbol], bits = (uint32_t)(value + (value >> 31)) & ((1u << size) - 1);
    put(writer, (uint64_t)(code >> 8) << size | bits, (int)(code & 31) + size);
    return code;
}

INLINE int size_of_value(int value) { return 32 - (int)_lzcnt_u32((unsigned)(value < 0 ? -value : value)); }

// Bits of which 16-bit numbers are not 0, the first one lowest.
INLINE uint64_t present(const int16_t *block) {
    uint64_t all = 0;
    for (int i = 0; i < 2; i++) {
        const __m256i *at = (const __m256i *)block + 2 * i, zero = _mm256_setzero_si256();
        const __m256i low = _mm256_cmpeq_epi16(_mm256_loadu_si256(at), zero), high = _mm256_cmpeq_epi16(_mm256_loadu_si256(at + 1), zero);
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xD8);
        all |= (uint64_t)(uint32_t)~_mm256_movemask_epi8(both) << (32 * i);
    }
    return all;
}

// Of each row of eight numbers, where those that are not 0 stand in the order in which they are written.
typedef struct {
    uint64_t of[SIDE][256];
    // The same as the places of all numbers.
    int16_t words[COEFS];
} Order;

static void fill(Order *order) {
    uint64_t place[COEFS];
    for (int k = 0; k < COEFS; k++) {
        place[NATURAL[k]] = (uint64_t)1 << k;
        order->words[k] = NATURAL[k];
    }
    for (int row = 0; row < SIDE; row++)
        for (int bits = 0; bits < 256; bits++) {
            uint64_t all = 0;
            for (int i = 0; i < SIDE; i++)
                if (bits >> i & 1) all |= place[SIDE * row + i];
            order->of[row][bits] = all;
        }
}

// The numbers of a block in the order in which they are written, and which of them are not 0.
typedef uint64_t ordered_function(const Order *order, const int16_t *block, int16_t *values);

INLINE uint64_t ordered_by_table(const Order *order, const int16_t *block, int16_t *values) {
    const uint64_t held = present(block);
    uint64_t all = 0, left;
    for (int row = 0; row < SIDE; row++) all |= order->of[row][held >> (8 * row) & 255];
    for (left = all; left; left &= left - 1) {
        const int k = (int)_tzcnt_u64(left);
        values[k] = block[NATURAL[k]];
    }
    return all;
}

__attribute__((target("avx2,fma,bmi,bmi2,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl"))) static inline
    __attribute__((always_inline)) uint64_t
    ordered_by_words(const Order *order, const int16_t *block, int16_t *values) {
    const __m512i low = _mm512_loadu_si512(block), high = _mm512_loadu_si512(block + 32);
    const __m512i first = _mm512_permutex2var_epi16(low, _mm512_loadu_si512(order->words), high);
    const __m512i second = _mm512_permutex2var_epi16(low, _mm512_loadu_si512(order->words + 32), high);
    _mm512_storeu_si512(values, first);
    _mm512_storeu_si512(values + 32, second);
    return (uint64_t)_mm512_test_epi16_mask(second, second) << 32 | _mm512_test_epi16_mask(first, first);
}

INLINE int put_block(Writer *writer, const Part *part, int before, const int16_t *values, uint64_t held) {
    const int step = values[0] - before, step_size = size_of_value(step);
    uint32_t codes = put_value(writer, part->dc, step_size, step_size, step);
    int last = 0;
    for (uint64_t left = held & ~(uint64_t)1; left; left &= left - 1) {
        const int k = (int)_tzcnt_u64(left), value = values[k], size = size_of_value(value);
        int run = k - last - 1;
        last = k;
        for (; __builtin_expect(run > 15, 0); run -= 16) codes |= put_value(writer, part->ac, 0xF0, 0, 0);
        codes |= put_value(writer, part->ac, (run << 4 | size) & 255, size, value);
        if (__builtin_expect(size > MOST_AC, 0)) return 0;
    }
    if (last < COEFS - 1) codes |= put_value(writer, part->ac, 0, 0, 0);
    return !(codes & NO_CODE);
}

static uint8_t *taken(uint8_t **memory, const uint8_t *end, int64_t size) {
    size = (size + 63) / 64 * 64;
    if (*memory == NULL || end - *memory < size) return *memory = NULL;
    *memory += size;
    return *memory - size;
}

// What stands in a unit for blocks that show no part of the picture: what was before it, without detail.
__attribute__((always_inline)) FOR_BITS static inline int64_t encode_body(const Job *job, ordered_function *ordered) {
    uint8_t *memory = job->memory + (64 - (uintptr_t)job->memory % 64), *const room = job->memory + job->room;
    Order *order = (Order *)taken(&memory, room, sizeof *order);
    if (memory == NULL) return -1;
    fill(order);
    const Part *luma = &job->part[0];
    const int width = SIDE * luma->wide, height = SIDE * luma->tall;
    const int units = (job->width + width - 1) / width, rows = (job->height + height - 1) / height;
    Writer writer = {0, 0, job->out, job->out + job->size};
    int before[PARTS] = {0, 0, 0};
    int16_t blank[COEFS] = {0}, values[COEFS];
    for (int row = 0; row < rows; row++) {
        const int16_t *blocks[PARTS][4];
        for (int i = 0; i < job->parts; i++)
            for (int down = 0; down < job->part[i].tall; down++) {
                const Part *part = &job->part[i];
                const int y = row * part->tall + down;
                blocks[i][down] = y < part->rows ? (const int16_t *)((const uint8_t *)part->coefs + part->stride * y) : NULL;
            }
        for (int unit = 0; unit < units; unit++)
            for (int i = 0; i < job->parts; i++) {
                const Part *part = &job->part[i];
                for (int down = 0; down < part->tall; down++)
                    for (int across = 0; across < part->wide; across++) {
                        const int x = unit * part->wide + across;
                        const int16_t *block = blank;
                        if (blocks[i][down] != NULL && x < part->columns)
                            block = blocks[i][down] + (ptrdiff_t)COEFS * x;
                        else
                            blank[0] = (int16_t)before[i];
                        if (writer.end - writer.to < BLOCK_BYTES) return -1;
                        const uint64_t held = ordered(order, block, values);
                        values[0] = block[0];
                        if (!put_block(&writer, part, before[i], values, held)) return -1;
                        before[i] = block[0];
                    }
            }
    }
    // The last byte is filled up with ones.
    const int more = -writer.count & 7;
    if (more) put(&writer, (1u << more) - 1, more);
    return writer.to - job->out;
}

FOR_BITS static int64_t encode_avx2(const Job *job) { return encode_body(job, ordered_by_table); }

__attribute__((target("avx2,fma,bmi,bmi2,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl"))) static int64_t
encode_vnni(const Job *job) {
    return encode_body(job, ordered_by_words);
}
#endif

// Whether `p3m_encode` can be asked.
P3M_API int p3m_encodes(int level) { return P3M_X86 && level >= AVX2; }

// Entropy-coded data of coefficients, in which nothing is stuffed yet behind bytes of 255. How many bytes it has; below 0
// where there is no code for one, or no room.
P3M_API int64_t p3m_encode(int level, const Job *job) {
#if P3M_X86
    if (level >= AVX2) return level >= VNNI ? encode_vnni(job) : encode_avx2(job);
#else
    (void)job;
#endif
    (void)level;
    return -1;
}
