// Sequential JPEG files decoded: entropy coding, inverse transform, interpolation of colour and RGB, each as libjpeg-turbo
// does them, to the same coefficients and pixels. Whatever is unusual is left to that: this code gives up on it.
#include "native.h"

enum { SIDE = 8, COEFS = 64, PARTS = 3, LOOK = 11, LONGEST = 16, MOST_AC = 10, MOST_DC = 11, PAD = 32, BEHIND = 256 };
// Of a column of dequantised coefficients; no encoder makes more of bytes. Up to there 16 bits hold all sums.
enum { MOST_IN_COLUMN = 2896 };

// A Huffman table as a file has it: how many codes there are of 1 to 16 bits, and what they stand for.
typedef struct {
    uint8_t counts[LONGEST], symbols[256];
} Code;

typedef struct {
    // Blocks of a unit, down and across; and rows and columns of blocks that show a part of the picture.
    int32_t tall, wide, rows, columns;
    // Coefficients (rows, columns, 64), rows of blocks `stride` bytes apart.
    int16_t *coefs;
    int64_t stride;
    // Quantisation, row by row, and the numbers of its Huffman tables.
    const uint16_t *table;
    int32_t dc, ac;
} Part;

typedef struct {
    // Entropy-coded data; none where the coefficients are there already.
    const uint8_t *data;
    int64_t size;
    // Units from one restart marker to the next, 0 without.
    int32_t interval;
    int32_t height, width, parts;
    const Code *codes[4];
    // What is wanted of the picture, and where it comes to lie; none where `out` is NULL.
    int32_t top, bottom, left, right;
    uint8_t *out;
    int64_t out_stride;
    // Memory to work in.
    uint8_t *memory;
    int64_t room;
    Part part[PARTS];
} Job;

#if P3M_X86
#include <immintrin.h>

#define INLINE FOR_AVX2 static inline __attribute__((always_inline))

static const uint8_t NATURAL[COEFS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// What the next LOOK bits begin with: `bits` of code and value, how far it leads (a block's end: LAST), and the value.
// With `bits` below 0 those of the code alone, whose value has more bits; with 0 the code is longer, or there is none.
enum { LAST = 128 };
typedef struct {
    int8_t bits;
    uint8_t ahead;
    int16_t value;
} Entry;

typedef struct {
    Entry entries[1 << LOOK];
    // By length of a code: what the last one is, with 16 bits, and what is added to one for its symbol's place.
    int32_t last[LONGEST + 2], offset[LONGEST + 1];
    const uint8_t *symbols;
    int is_dc;
} Lookup;

static int value_of(int bits, int size) { return size == 0 ? 0 : bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits; }

// How far a symbol leads and how many bits its value has; 0 where no encoder writes it.
static int known(int symbol, int is_dc, int *ahead, int *size) {
    const int run = symbol >> 4;
    *size = symbol & 15;
    *ahead = is_dc ? 0 : symbol == 0 ? LAST : run + 1;
    return is_dc ? symbol <= MOST_DC : *size <= MOST_AC && (*size || run == 0 || run == 15);
}

static int prepare(const Code *code, int is_dc, Lookup *made) {
    int next = 0, place = 0;
    memset(made->entries, 0, sizeof made->entries);
    made->symbols = code->symbols;
    made->is_dc = is_dc;
    for (int length = 1; length <= LONGEST; length++) {
        made->offset[length] = place - next;
        for (int i = 0; i < code->counts[length - 1]; i++, next++, place++) {
            int ahead, size;
            // libjpeg refuses codes of ones alone, and symbols that no DC value has, also where they are not used.
            if (place >= 256 || next >= (1 << length) - 1 || (is_dc && code->symbols[place] > 15)) return 0;
            if (length > LOOK || !known(code->symbols[place], is_dc, &ahead, &size)) continue;
            const int more = LOOK - length;
            for (int rest = 0; rest < 1 << more; rest++) {
                const int at = next << more | rest;
                Entry *entry = &made->entries[at];
                entry->ahead = (uint8_t)ahead;
                entry->bits = (int8_t)(size <= more ? length + size : -length);
                entry->value = (int16_t)(size <= more ? value_of(rest >> (more - size), size) : size);
            }
        }
        // libjpeg takes no table that has a code of ones alone, nor one of DC with a symbol that is no number of bits.
        if (code->counts[length - 1] && next >= 1 << length) return 0;
        made->last[length] = next << (LONGEST - length);
        next <<= 1;
    }
    return 1;
}

// Bits that come next, the first one on top, at least `count` of them; and the bytes behind these.
typedef struct {
    uint64_t bits;
    int count;
    const uint8_t *at, *end;
} Reader;

// 56 bits and more.
INLINE void refill(Reader *from) {
    uint64_t more;
    memcpy(&more, from->at, sizeof more);
    from->bits |= __builtin_bswap64(more) >> from->count;
    from->at += (63 - from->count) >> 3;
    from->count |= 56;
}

// What 26 bits begin with, where the table does not tell all of it; `bits` is 0 if no encoder writes that.
FOR_AVX2 static __attribute__((noinline)) Entry slow(uint64_t bits, const Lookup *table) {
    Entry entry = table->entries[bits >> (64 - LOOK)];
    int length = -entry.bits, ahead = entry.ahead, size = entry.value;
    if (length == 0) {
        const int next = (int)(bits >> (64 - LONGEST));
        // Of all lengths: a short code may stand for what no encoder writes.
        length = 1;
        while (length <= LONGEST && next >= table->last[length]) length++;
        if (length > LONGEST) return (Entry){0, 0, 0};
        const int place = (next >> (LONGEST - length)) + table->offset[length];
        if (place < 0 || place > 255 || !known(table->symbols[place], table->is_dc, &ahead, &size)) return (Entry){0, 0, 0};
    }
    const int value = size ? value_of((int)(bits << length >> (64 - size)), size) : 0;
    return (Entry){(int8_t)(length + size), (uint8_t)ahead, (int16_t)value};
}

INLINE void drop(Reader *from, int count) {
    from->bits <<= count;
    from->count -= count;
}

// The next value, of which the table tells LOOK bits; more are read where it is longer.
INLINE Entry next_value(Reader *from, const Lookup *table) {
    Entry entry = table->entries[from->bits >> (64 - LOOK)];
    if (__builtin_expect(entry.bits <= 0, 0)) {
        refill(from);
        entry = slow(from->bits, table);
        drop(from, entry.bits);
        // As many are there as if it had been a short one.
        refill(from);
    } else {
        drop(from, entry.bits);
    }
    return entry;
}

INLINE int block_of(Reader *from, const Lookup *dc, const Lookup *ac, int *before, int16_t *restrict out) {
    // Of a block there are at most that many bytes behind the end.
    if (from->at > from->end) return 0;
    for (int i = 0; i < 4; i++) _mm256_storeu_si256((__m256i *)out + i, _mm256_setzero_si256());
    refill(from);
    Entry entry = next_value(from, dc);
    *before += entry.value;
    if (!entry.bits || *before < -2048 || *before > 2047) return 0;
    out[0] = (int16_t)*before;
    for (int k = 0; k < COEFS - 1;) {
        refill(from);
#define NEXT                                                                                                            \
    entry = next_value(from, ac);                                                                                       \
    k += entry.ahead;                                                                                                   \
    if (k >= COEFS) return entry.ahead == LAST;                                                                         \
    if (!entry.bits) return 0;                                                                                          \
    out[NATURAL[k]] = entry.value;
        NEXT
        if (k == COEFS - 1) break;
        NEXT
        if (k == COEFS - 1) break;
        NEXT
        if (k == COEFS - 1) break;
        NEXT
#undef NEXT
    }
    return 1;
}

// The entropy-coded data without what is stuffed into it, and where each interval begins. 0 where markers are others.
FOR_AVX2 static int64_t unstuffed(const uint8_t *data, int64_t size, uint8_t *out, int64_t *begins, int64_t most, int64_t *found) {
    const uint8_t *at = data, *const end = data + size;
    uint8_t *to = out;
    int marker = 0;
    *found = 1;
    begins[0] = 0;
    while (at < end) {
        const uint8_t *stop = memchr(at, 0xFF, (size_t)(end - at));
        const uint8_t *until = stop == NULL ? end : stop;
        memcpy(to, at, (size_t)(until - at));
        to += until - at;
        if (stop == NULL) break;
        if (stop + 1 == end) return -1;
        if (stop[1] == 0) {
            *to++ = 0xFF;
        } else {
            if (stop[1] != 0xD0 + marker || *found >= most) return -1;
            marker = (marker + 1) % 8;
            begins[(*found)++] = to - out;
        }
        at = stop + 2;
    }
    return to - out;
}

// --- the inverse transform

#define PAIR(A, B) _mm256_set1_epi32((int)((uint32_t)(uint16_t)(int16_t)(B) << 16 | (uint16_t)(int16_t)(A)))

typedef struct {
    __m256i low, high;
} Wide;

INLINE Wide both(__m256i low, __m256i high, __m256i factors) {
    return (Wide){_mm256_madd_epi16(low, factors), _mm256_madd_epi16(high, factors)};
}

INLINE Wide sum(Wide a, Wide b) { return (Wide){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }

INLINE Wide less(Wide a, Wide b) { return (Wide){_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }

INLINE Wide shifted(__m256i values) {
    const __m256i zero = _mm256_setzero_si256();
    return (Wide){_mm256_srai_epi32(_mm256_unpacklo_epi16(zero, values), 3), _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, values), 3)};
}

// One dimension of the transform, of eight times sixteen numbers.
INLINE void transformed(__m256i v[SIDE], int shift) {
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    const __m256i even_low = _mm256_unpacklo_epi16(v[2], v[6]), even_high = _mm256_unpackhi_epi16(v[2], v[6]);
    const Wide e3 = both(even_low, even_high, PAIR(4433 + 6270, 4433)), e2 = both(even_low, even_high, PAIR(4433, 4433 - 15137));
    Wide e0 = shifted(_mm256_add_epi16(v[0], v[4])), e1 = shifted(_mm256_sub_epi16(v[0], v[4]));
    const Wide halves = {half, half};
    e0 = sum(e0, halves);
    e1 = sum(e1, halves);
    const Wide t10 = sum(e0, e3), t13 = less(e0, e3), t11 = sum(e1, e2), t12 = less(e1, e2);
    const __m256i s3 = _mm256_add_epi16(v[7], v[3]), s4 = _mm256_add_epi16(v[5], v[1]);
    const __m256i s_low = _mm256_unpacklo_epi16(s3, s4), s_high = _mm256_unpackhi_epi16(s3, s4);
    const Wide z3 = both(s_low, s_high, PAIR(9633 - 16069, 9633)), z4 = both(s_low, s_high, PAIR(9633, 9633 - 3196));
    const __m256i a_low = _mm256_unpacklo_epi16(v[7], v[1]), a_high = _mm256_unpackhi_epi16(v[7], v[1]);
    const __m256i b_low = _mm256_unpacklo_epi16(v[5], v[3]), b_high = _mm256_unpackhi_epi16(v[5], v[3]);
    const Wide o0 = sum(both(a_low, a_high, PAIR(2446 - 7373, -7373)), z3), o3 = sum(both(a_low, a_high, PAIR(-7373, 12299 - 7373)), z4);
    const Wide o1 = sum(both(b_low, b_high, PAIR(16819 - 20995, -20995)), z4), o2 = sum(both(b_low, b_high, PAIR(-20995, 25172 - 20995)), z3);
#define OUT(I, A, B)                                                                                                    \
    do {                                                                                                                \
        const Wide more = sum(A, B), fewer = less(A, B);                                                                \
        v[I] = _mm256_packs_epi32(_mm256_srai_epi32(more.low, shift), _mm256_srai_epi32(more.high, shift));             \
        v[7 - I] = _mm256_packs_epi32(_mm256_srai_epi32(fewer.low, shift), _mm256_srai_epi32(fewer.high, shift));       \
    } while (0)
    OUT(0, t10, o3);
    OUT(1, t11, o2);
    OUT(2, t12, o1);
    OUT(3, t13, o0);
#undef OUT
}

INLINE void transposed(__m256i v[SIDE]) {
    __m256i a[SIDE], b[SIDE];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi16(v[i], v[i + 4]);
        a[2 * i + 1] = _mm256_unpackhi_epi16(v[i], v[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        b[2 * i] = _mm256_unpacklo_epi16(a[i], a[i + 4]);
        b[2 * i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 4]);
    }
    for (int i = 0; i < 4; i++) {
        v[2 * i] = _mm256_unpacklo_epi16(b[i], b[i + 4]);
        v[2 * i + 1] = _mm256_unpackhi_epi16(b[i], b[i + 4]);
    }
}

// Two blocks, one beside the other. What is told is not 0 where a number is larger than any encoder makes it.
INLINE __m256i samples_of(const int16_t *one, const int16_t *other, const int16_t *table, const int16_t *most, uint8_t *out, ptrdiff_t stride) {
    __m256i v[SIDE], wrong = _mm256_setzero_si256(), columns = wrong;
    for (int i = 0; i < SIDE; i++) {
        const __m256i stored = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)one + i)),
                                                       _mm_loadu_si128((const __m128i *)other + i), 1);
        const __m256i factor = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table + i));
        const __m256i largest = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)most + i));
        v[i] = _mm256_mullo_epi16(stored, factor);
        wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi16(_mm256_abs_epi16(stored), largest));
        columns = _mm256_add_epi16(columns, _mm256_abs_epi16(v[i]));
    }
    wrong = _mm256_or_si256(wrong, _mm256_cmpgt_epi16(columns, _mm256_set1_epi16(MOST_IN_COLUMN)));
    transformed(v, 11);
    transposed(v);
    transformed(v, 18);
    __m256i p[4], q[4];
    for (int i = 0; i < 4; i++)
        p[i] = _mm256_packs_epi16(v[i], v[i + 4]);
    q[0] = _mm256_unpacklo_epi8(p[0], p[1]);
    q[1] = _mm256_unpackhi_epi8(p[0], p[1]);
    q[2] = _mm256_unpacklo_epi8(p[2], p[3]);
    q[3] = _mm256_unpackhi_epi8(p[2], p[3]);
    p[0] = _mm256_unpacklo_epi16(q[0], q[2]);
    p[1] = _mm256_unpackhi_epi16(q[0], q[2]);
    p[2] = _mm256_unpacklo_epi16(q[1], q[3]);
    p[3] = _mm256_unpackhi_epi16(q[1], q[3]);
    q[0] = _mm256_unpacklo_epi32(p[0], p[2]);
    q[1] = _mm256_unpackhi_epi32(p[0], p[2]);
    q[2] = _mm256_unpacklo_epi32(p[1], p[3]);
    q[3] = _mm256_unpackhi_epi32(p[1], p[3]);
    for (int i = 0; i < 4; i++) {
        const __m256i rows = _mm256_add_epi8(_mm256_permute4x64_epi64(q[i], 0xD8), _mm256_set1_epi8((char)128));
        _mm_storeu_si128((__m128i *)(out + 2 * i * stride), _mm256_castsi256_si128(rows));
        _mm_storeu_si128((__m128i *)(out + (2 * i + 1) * stride), _mm256_extracti128_si256(rows, 1));
    }
    return wrong;
}

// --- pixels

// Samples of colour in a row of the picture: those of `near` and, for a quarter, those of `far`, or of one row alone.
INLINE void enlarged_row(const uint8_t *near, const uint8_t *far, int first, int last, int count, int16_t *restrict sums, uint8_t *restrict out) {
    // One more at each side, as far as there are any.
    const int begin = first > 0 ? first - 1 : 0, end = last + 1 < count ? last + 1 : count - 1;
    const int16_t more = far == NULL ? 1 : 8, then = far == NULL ? 2 : 7;
    if (far == NULL)
        for (int j = begin; j <= end; j++) sums[j] = near[j];
    else
        for (int j = begin; j <= end; j += 16) {
            const __m256i a = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(near + j)));
            const __m256i b = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(far + j)));
            _mm256_storeu_si256((__m256i *)(sums + j), _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(a, a)));
        }
    if (first == 0) sums[-1] = sums[0];
    if (last == count - 1) sums[count] = sums[count - 1];
    const __m128i shift = _mm_cvtsi32_si128(far == NULL ? 2 : 4);
    for (int j = first; j <= last; j += 16) {
        const __m256i here = _mm256_loadu_si256((const __m256i *)(sums + j));
        const __m256i left = _mm256_loadu_si256((const __m256i *)(sums + j - 1)), right = _mm256_loadu_si256((const __m256i *)(sums + j + 1));
        const __m256i three = _mm256_add_epi16(here, _mm256_add_epi16(here, here));
        const __m256i even = _mm256_srl_epi16(_mm256_add_epi16(_mm256_add_epi16(three, left), _mm256_set1_epi16(more)), shift);
        const __m256i odd = _mm256_srl_epi16(_mm256_add_epi16(_mm256_add_epi16(three, right), _mm256_set1_epi16(then)), shift);
        _mm256_storeu_si256((__m256i *)(out + 2 * j), _mm256_or_si256(even, _mm256_slli_epi16(odd, 8)));
    }
}

INLINE void sixteen(__m256i y, __m256i cb, __m256i cr, __m256i *red, __m256i *green, __m256i *blue) {
    const __m256i middle = _mm256_set1_epi16(128), one = _mm256_set1_epi16(1), half = _mm256_set1_epi32(1 << 15);
    cb = _mm256_sub_epi16(cb, middle);
    cr = _mm256_sub_epi16(cr, middle);
    const __m256i twice_cb = _mm256_add_epi16(cb, cb), twice_cr = _mm256_add_epi16(cr, cr);
    const __m256i r = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epi16(twice_cr, _mm256_set1_epi16(26345)), one), 1);
    const __m256i b = _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epi16(twice_cb, _mm256_set1_epi16(-14942)), one), 1);
    const __m256i factors = PAIR(-22554, 18734);
    const __m256i low = _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), factors), half), 16);
    const __m256i high = _mm256_srai_epi32(_mm256_add_epi32(_mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), factors), half), 16);
    *red = _mm256_add_epi16(_mm256_add_epi16(y, cr), r);
    *green = _mm256_add_epi16(y, _mm256_sub_epi16(_mm256_packs_epi32(low, high), cr));
    *blue = _mm256_add_epi16(_mm256_add_epi16(y, twice_cb), b);
}

INLINE __m256i wide(const uint8_t *from) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from)); }

// Thirty-two pixels.
INLINE void pixels_of(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *out) {
    __m256i r0, g0, b0, r1, g1, b1;
    sixteen(wide(y), wide(cb), wide(cr), &r0, &g0, &b0);
    sixteen(wide(y + 16), wide(cb + 16), wide(cr + 16), &r1, &g1, &b1);
    const __m256i r = _mm256_permute4x64_epi64(_mm256_packus_epi16(r0, r1), 0xD8);
    const __m256i g = _mm256_permute4x64_epi64(_mm256_packus_epi16(g0, g1), 0xD8);
    const __m256i b = _mm256_permute4x64_epi64(_mm256_packus_epi16(b0, b1), 0xD8);
#define TWICE(...) _mm256_setr_epi8(__VA_ARGS__, __VA_ARGS__)
#define OF(A, B, C) _mm256_or_si256(_mm256_or_si256(_mm256_shuffle_epi8(r, A), _mm256_shuffle_epi8(g, B)), _mm256_shuffle_epi8(b, C))
    const __m256i first = OF(TWICE(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5), TWICE(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1),
                             TWICE(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1));
    const __m256i second = OF(TWICE(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1), TWICE(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10),
                              TWICE(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1));
    const __m256i third = OF(TWICE(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1), TWICE(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1),
                             TWICE(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15));
#undef OF
#undef TWICE
    _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(first, second, 0x20));
    _mm256_storeu_si256((__m256i *)(out + 32), _mm256_permute2x128_si256(third, first, 0x30));
    _mm256_storeu_si256((__m256i *)(out + 64), _mm256_permute2x128_si256(second, third, 0x31));
}

// --- rows of units

typedef struct {
    const Job *job;
    // Of each component: two rows of units of samples, `stride` bytes apart, in a ring.
    uint8_t *samples[PARTS];
    ptrdiff_t stride[PARTS];
    // A row of each colour as large as the picture, and sums on the way there.
    uint8_t *colour[PARTS];
    int16_t *sums;
    // Coefficients of a row of units, where nobody wants them.
    int16_t *row[PARTS];
    int16_t table[PARTS][COEFS], most[PARTS][COEFS];
    int tall, wide;
} State;

INLINE const uint8_t *sample_row(const State *state, int number, int y) {
    const int ring = 2 * SIDE * state->job->part[number].tall;
    return state->samples[number] + state->stride[number] * (y % ring);
}

FOR_AVX2 static void show_row(const State *state, int y) {
    const Job *job = state->job;
    uint8_t *out = job->out + job->out_stride * (y - job->top);
    const uint8_t *luma = sample_row(state, 0, y) + job->left, *of[PARTS] = {luma, luma, luma};
    const int count = job->right - job->left;
    if (job->parts == 1) {
        memcpy(out, luma, (size_t)count);
        return;
    }
    for (int i = 1; i < PARTS; i++) {
        if (state->wide == 1) {
            of[i] = sample_row(state, i, y) + job->left;
            continue;
        }
        const int samples = (job->width + 1) / 2, first = job->left / 2, last = (job->right - 1) / 2;
        if (state->tall == 1) {
            enlarged_row(sample_row(state, i, y), NULL, first, last, samples, state->sums, state->colour[i]);
        } else {
            const int here = y / 2, rows = (job->height + 1) / 2;
            int other = y % 2 ? here + 1 : here - 1;
            other = other < 0 ? 0 : other >= rows ? rows - 1 : other;
            enlarged_row(sample_row(state, i, here), sample_row(state, i, other), first, last, samples, state->sums, state->colour[i]);
        }
        of[i] = state->colour[i] + job->left;
    }
    int x = 0;
    for (; x + 32 <= count; x += 32) pixels_of(luma + x, of[1] + x, of[2] + x, out + 3 * x);
    if (x < count) {
        uint8_t rest[96];
        pixels_of(luma + x, of[1] + x, of[2] + x, rest);
        memcpy(out + 3 * x, rest, 3 * (size_t)(count - x));
    }
}

// The blocks of a component's row of blocks; NULL below the picture.
INLINE int16_t *blocks_of(const State *state, int number, int row, int down) {
    const Part *part = &state->job->part[number];
    if (row * part->tall + down >= part->rows) return NULL;
    if (part->coefs != NULL) return (int16_t *)((uint8_t *)part->coefs + part->stride * (row * part->tall + down));
    return state->row[number] + (ptrdiff_t)COEFS * part->columns * down;
}

FOR_AVX2 static int show_units(const State *state, int row, int first, int last) {
    static const int16_t blank[COEFS];
    __m256i wrong = _mm256_setzero_si256();
    for (int i = 0; i < state->job->parts; i++) {
        const Part *part = &state->job->part[i];
        int begin = first * part->wide, end = (last + 1) * part->wide;
        if (end > part->columns) end = part->columns;
        for (int down = 0; down < part->tall; down++) {
            const int16_t *blocks = blocks_of(state, i, row, down);
            if (blocks == NULL) break;
            uint8_t *out = (uint8_t *)sample_row(state, i, SIDE * (row * part->tall + down));
            for (int x = begin; x < end; x += 2) {
                const int16_t *one = blocks + (ptrdiff_t)COEFS * x;
                wrong = _mm256_or_si256(wrong, samples_of(one, x + 1 < end ? one + COEFS : blank, state->table[i], state->most[i], out + SIDE * x, state->stride[i]));
            }
        }
    }
    return _mm256_testz_si256(wrong, wrong);
}

static uint8_t *taken(uint8_t **memory, const uint8_t *end, int64_t size) {
    size = (size + 63) / 64 * 64;
    if (*memory == NULL || end - *memory < size) return *memory = NULL;
    *memory += size;
    return *memory - size;
}

FOR_AVX2 static int decode(const Job *job) {
    State state = {.job = job};
    uint8_t *memory = job->memory + (64 - (uintptr_t)job->memory % 64), *const room = job->memory + job->room;
    const Part *luma = &job->part[0];
    state.tall = luma->tall;
    state.wide = luma->wide;
    const int height = SIDE * state.tall, width = SIDE * state.wide;
    const int units = (job->width + width - 1) / width, rows = (job->height + height - 1) / height;
    Lookup *lookups = (Lookup *)taken(&memory, room, 4 * (int64_t)sizeof(Lookup));
    for (int i = 0; i < job->parts; i++) {
        const Part *part = &job->part[i];
        state.stride[i] = (units * part->wide + 1) * SIDE + PAD;
        state.samples[i] = taken(&memory, room, state.stride[i] * 2 * SIDE * part->tall + PAD);
        state.colour[i] = taken(&memory, room, units * width + 2 * PAD);
        if (part->coefs == NULL) state.row[i] = (int16_t *)taken(&memory, room, 2 * (int64_t)COEFS * part->columns * part->tall);
        for (int k = 0; k < COEFS; k++) {
            state.table[i][k] = (int16_t)part->table[k];
            state.most[i][k] = (int16_t)(MOST_IN_COLUMN / part->table[k]);
        }
    }
    state.sums = (int16_t *)taken(&memory, room, 2 * (units * width + 2 * PAD));
    const int64_t intervals = job->interval ? ((int64_t)units * rows + job->interval - 1) / job->interval : 1;
    int64_t *begins = (int64_t *)taken(&memory, room, 8 * (intervals + 1)), found = 0, size = 0, interval = 0;
    uint8_t *bytes = taken(&memory, room, job->size + BEHIND);
    if (bytes == NULL) return 0;
    state.sums += PAD / 2;
    Reader from = {0};
    if (job->data != NULL) {
        for (int i = 0; i < 4; i++)
            if (job->codes[i] != NULL && !prepare(job->codes[i], i < 2, &lookups[i])) return 0;
        size = unstuffed(job->data, job->size, bytes, begins, intervals, &found);
        if (size < 0 || found != intervals) return 0;
        begins[intervals] = size;
        memset(bytes + size, 0, BEHIND);
        from = (Reader){0, 0, bytes, bytes + size + SIDE};
    }
    const int first = (job->left > 3 ? job->left - 3 : 0) / width, most = (job->right + 2) / width, last = most < units ? most : units - 1;
    const int from_row = job->out == NULL ? rows : (job->top > 0 ? job->top - 1 : 0) / height, to_row = job->bottom / height;
    int before[PARTS] = {0, 0, 0}, next = job->top, left = job->interval;
    int16_t beside[COEFS];
    for (int row = job->data == NULL ? from_row : 0; row < rows; row++) {
        if (job->data != NULL) {
            int16_t *blocks[PARTS][4];
            for (int i = 0; i < job->parts; i++)
                for (int down = 0; down < job->part[i].tall; down++) blocks[i][down] = blocks_of(&state, i, row, down);
            for (int unit = 0; unit < units; unit++) {
                if (job->interval && left-- == 0) {
                    const int64_t used = 8 * (from.at - bytes) - from.count;
                    interval++;
                    if (used > 8 * begins[interval] || used <= 8 * begins[interval] - 8) return 0;
                    from = (Reader){0, 0, bytes + begins[interval], from.end};
                    before[0] = before[1] = before[2] = 0;
                    left = job->interval - 1;
                }
                for (int i = 0; i < job->parts; i++) {
                    const Part *part = &job->part[i];
                    const Lookup *dc = &lookups[part->dc], *ac = &lookups[2 + part->ac];
                    for (int down = 0; down < part->tall; down++)
                        for (int across = 0; across < part->wide; across++) {
                            const int x = unit * part->wide + across;
                            int16_t *block = blocks[i][down] != NULL && x < part->columns ? blocks[i][down] + (ptrdiff_t)COEFS * x : beside;
                            if (!block_of(&from, dc, ac, &before[i], block)) return 0;
                        }
                }
            }
        }
        if (row < from_row || row > to_row) {
            if (job->data == NULL) break;
            continue;
        }
        if (!show_units(&state, row, first, last)) return 0;
        // The last row of units of colour that is sampled down wants what is below it.
        const int whole = (row + 1) * height, shown = row == rows - 1 ? job->height : state.tall == 2 && job->parts > 1 ? whole - 1 : whole;
        for (; next < shown && next < job->bottom; next++) show_row(&state, next);
    }
    const int64_t used = 8 * (from.at - bytes) - from.count;
    if (job->data != NULL && (interval + 1 != intervals || used > 8 * size || used <= 8 * size - 8)) return 0;
    return 1;
}
#endif

// Whether `p3m_decode` can be asked.
P3M_API int p3m_decodes(int level) { return P3M_X86 && level >= AVX2; }

// Coefficients, pixels or both of a file, or pixels of coefficients. 1 if all of the data is as encoders write it; where
// it is not, what was written to until then has no meaning.
P3M_API int p3m_decode(int level, const Job *job) {
#if P3M_X86
    if (level >= AVX2) return decode(job);
#else
    (void)job;
#endif
    (void)level;
    return 0;
}
