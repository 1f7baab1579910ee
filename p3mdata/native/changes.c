// How two pictures differ, counted in one pass.
#include "native.h"

static inline int abs_of(int value) { return value < 0 ? -value : value; }

enum { OUTSIDE, LARGEST, TRANSITION, REPLACED, CHANNELS };

enum { PIXELS = 64, BYTES = 3 * PIXELS };

#define FOUR 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
static const uint8_t FIRST[BYTES] = {SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN};

// Of a group of pixels of three bytes: adds how many differ, and raises by how much at most.
typedef void group_function(const uint8_t *a, const uint8_t *b, int32_t *outside, int32_t *largest);

BODY void group_by_bytes(const uint8_t *restrict a, const uint8_t *restrict b, int32_t *outside, int32_t *largest) {
    uint8_t gap[BYTES + 2], most = 0;
    int32_t differ = 0;
    gap[BYTES] = gap[BYTES + 1] = 0;
    for (int i = 0; i < BYTES; i++) gap[i] = (uint8_t)(a[i] > b[i] ? a[i] - b[i] : b[i] - a[i]);
    for (int i = 0; i < BYTES; i++) most = gap[i] > most ? gap[i] : most;
    for (int i = 0; i < BYTES; i++) differ += ((gap[i] | gap[i + 1] | gap[i + 2]) != 0) & FIRST[i];
    *outside += differ;
    *largest = most > *largest ? most : *largest;
}

#if P3M_X86
#include <immintrin.h>

FOR_AVX2 static inline __attribute__((always_inline)) void group_by_bits(const uint8_t *a, const uint8_t *b,
                                                                         int32_t *outside, int32_t *largest) {
    const __m256i known = _mm256_set1_epi8((char)*largest);
    __m256i above = _mm256_setzero_si256(), gaps[BYTES / 32];
    // A bit for each byte that differs.
    uint64_t bits[4] = {0, 0, 0, 0};
    for (int i = 0; i < BYTES / 32; i++) {
        const __m256i one = _mm256_loadu_si256((const __m256i *)a + i), other = _mm256_loadu_si256((const __m256i *)b + i);
        const uint32_t same = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(one, other));
        bits[i / 2] |= (uint64_t)~same << (32 * (i % 2));
        gaps[i] = _mm256_or_si256(_mm256_subs_epu8(one, other), _mm256_subs_epu8(other, one));
        above = _mm256_or_si256(above, _mm256_subs_epu8(gaps[i], known));
    }
    // Bits of the first byte of each pixel.
    const uint64_t first[3] = {0x9249249249249249u, 0x4924924924924924u, 0x2492492492492492u};
    for (int i = 0; i < 3; i++) {
        const uint64_t more = bits[i] >> 1 | bits[i + 1] << 63, most = bits[i] >> 2 | bits[i + 1] << 62;
        *outside += __builtin_popcountll((bits[i] | more | most) & first[i]);
    }
    // Seldom, since it only rises.
    if (!_mm256_testz_si256(above, above)) {
        uint8_t each[BYTES];
        memcpy(each, gaps, sizeof each);
        for (int i = 0; i < BYTES; i++) *largest = each[i] > *largest ? each[i] : *largest;
    }
}
#endif

BODY int is_empty(const uint8_t *one, const uint8_t *other, const uint8_t *last) {
    uint8_t any = 0;
    for (int x = 0; x < PIXELS; x++) any |= one[x] | other[x] | last[x];
    return any == 0;
}

BODY void changes_body(const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after, ptrdiff_t after_stride,
                       int height, int width, int channels, const uint8_t *const masks[3], const ptrdiff_t strides[3],
                       int64_t *found, group_function *group) {
    for (int y = 0; y < height; y++) {
        const uint8_t *restrict a = before + y * before_stride, *restrict b = after + y * after_stride;
        if (memcmp(a, b, (size_t)width * (size_t)channels) == 0) continue;
        const uint8_t *restrict inner = masks[0] + y * strides[0], *restrict transition = masks[1] + y * strides[1];
        const uint8_t *restrict replaced = masks[2] + y * strides[2];
        int32_t outside = 0, largest = 0, in_transition = 0, in_replaced = 0, of[3] = {0, 0, 0};
        if (channels == 3) {
            for (int x = 0; x < width;) {
                const int end = x + PIXELS < width ? x + PIXELS : width;
                // Most of a picture that was encoded anew lies beside all masks.
                if (end - x == PIXELS && is_empty(inner + x, transition + x, replaced + x)) {
                    group(a + 3 * x, b + 3 * x, &outside, &largest);
                    x = end;
                }
                for (; x < end; x++) {
                    const int r = abs_of(a[3 * x] - b[3 * x]), g = abs_of(a[3 * x + 1] - b[3 * x + 1]);
                    const int l = abs_of(a[3 * x + 2] - b[3 * x + 2]);
                    const int gap = r > g ? (r > l ? r : l) : (g > l ? g : l), changed = gap != 0, beside = !inner[x];
                    const int hides = replaced[x] != 0;
                    outside += changed & beside;
                    const int seen = beside ? gap : 0;
                    largest = seen > largest ? seen : largest;
                    in_transition += changed & (transition[x] != 0);
                    in_replaced += changed & hides;
                    of[0] += (r != 0) & hides;
                    of[1] += (g != 0) & hides;
                    of[2] += (l != 0) & hides;
                }
            }
        } else {
            for (int x = 0; x < width; x++) {
                const int gap = abs_of(a[x] - b[x]), changed = gap != 0, beside = !inner[x];
                outside += changed & beside;
                const int seen = beside ? gap : 0;
                largest = seen > largest ? seen : largest;
                in_transition += changed & (transition[x] != 0);
                in_replaced += changed & (replaced[x] != 0);
            }
            of[0] = in_replaced;
        }
        found[OUTSIDE] += outside;
        found[LARGEST] = largest > found[LARGEST] ? largest : found[LARGEST];
        found[TRANSITION] += in_transition;
        found[REPLACED] += in_replaced;
        for (int i = 0; i < 3; i++) found[CHANNELS + i] += of[i];
    }
}

#define PARAMETERS                                                                                                      \
    (const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after, ptrdiff_t after_stride, int height,          \
     int width, int channels, const uint8_t *const masks[3], const ptrdiff_t strides[3], int64_t *found)
#define WITH(GROUP)                                                                                                     \
    { changes_body(before, before_stride, after, after_stride, height, width, channels, masks, strides, found, GROUP); }

static void changes_generic PARAMETERS WITH(group_by_bytes)
#if P3M_X86
FOR_AVX2 static void changes_avx2 PARAMETERS WITH(group_by_bits)
FOR_VNNI static void changes_vnni PARAMETERS WITH(group_by_bits)
#endif

// Of height x width pixels of 1 or 3 bytes each, and masks `inner`, `transition` and `replaced`: how many differ beside
// the first, and by how much at most in any channel; how many in the second and in the third; and in the third how many
// values of each channel. Adds to the seven numbers of `found`.
P3M_API void p3m_changes(int level, const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after,
                         ptrdiff_t after_stride, int height, int width, int channels, const uint8_t *const masks[3],
                         const ptrdiff_t strides[3], int64_t *found) {
    CALL(changes, level, (before, before_stride, after, after_stride, height, width, channels, masks, strides, found));
}
