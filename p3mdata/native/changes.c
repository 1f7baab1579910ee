// How two pictures differ, counted in one pass.
#include "native.h"

static inline int abs_of(int value) { return value < 0 ? -value : value; }

enum { OUTSIDE, LARGEST, TRANSITION, REPLACED, CHANNELS };

enum { PIXELS = 64, BYTES = 3 * PIXELS };

#define FOUR 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
static const uint8_t FIRST[BYTES] = {SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN};

// Of a row of pixels of three bytes: how many differ, and by how much at most; those that fill whole groups. Tells how
// many those are.
BODY int beside_masks(const uint8_t *restrict a, const uint8_t *restrict b, int width, int32_t *outside,
                      int32_t *largest) {
    int x = 0;
    for (; x + PIXELS <= width; x += PIXELS, a += BYTES, b += BYTES) {
        uint8_t gap[BYTES + 2], most = 0;
        int32_t differ = 0;
        gap[BYTES] = gap[BYTES + 1] = 0;
        for (int i = 0; i < BYTES; i++) gap[i] = (uint8_t)(a[i] > b[i] ? a[i] - b[i] : b[i] - a[i]);
        for (int i = 0; i < BYTES; i++) most = gap[i] > most ? gap[i] : most;
        for (int i = 0; i < BYTES; i++) differ += ((gap[i] | gap[i + 1] | gap[i + 2]) != 0) & FIRST[i];
        *outside += differ;
        *largest = most > *largest ? most : *largest;
    }
    return x;
}

BODY int is_empty(const uint8_t *mask, int width) {
    uint8_t any = 0;
    for (int x = 0; x < width; x++) any |= mask[x];
    return any == 0;
}

BODY void changes_body(const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after, ptrdiff_t after_stride,
                       int height, int width, int channels, const uint8_t *const masks[3], const ptrdiff_t strides[3],
                       int64_t *found) {
    for (int y = 0; y < height; y++) {
        const uint8_t *restrict a = before + y * before_stride, *restrict b = after + y * after_stride;
        if (memcmp(a, b, (size_t)width * (size_t)channels) == 0) continue;
        const uint8_t *restrict inner = masks[0] + y * strides[0], *restrict transition = masks[1] + y * strides[1];
        const uint8_t *restrict replaced = masks[2] + y * strides[2];
        int32_t outside = 0, largest = 0, in_transition = 0, in_replaced = 0, of[3] = {0, 0, 0};
        if (channels == 3) {
            int x = 0;
            // Most rows of a picture that was encoded anew lie beside all masks.
            if (is_empty(inner, width) && is_empty(transition, width) && is_empty(replaced, width))
                x = beside_masks(a, b, width, &outside, &largest);
            for (; x < width; x++) {
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

KERNEL(changes,
       (const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after, ptrdiff_t after_stride, int height,
        int width, int channels, const uint8_t *const masks[3], const ptrdiff_t strides[3], int64_t *found),
       (before, before_stride, after, after_stride, height, width, channels, masks, strides, found))

// Of height x width pixels of 1 or 3 bytes each, and masks `inner`, `transition` and `replaced`: how many differ beside
// the first, and by how much at most in any channel; how many in the second and in the third; and in the third how many
// values of each channel. Adds to the seven numbers of `found`.
P3M_API void p3m_changes(int level, const uint8_t *before, ptrdiff_t before_stride, const uint8_t *after,
                         ptrdiff_t after_stride, int height, int width, int channels, const uint8_t *const masks[3],
                         const ptrdiff_t strides[3], int64_t *found) {
    CALL(changes, level, (before, before_stride, after, after_stride, height, width, channels, masks, strides, found));
}
