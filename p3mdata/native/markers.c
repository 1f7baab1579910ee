// Markers in JPEG files: bytes of 255 and what follows them.
#include "native.h"

// Where the entropy-coded data ends that goes on at `at`: at the first of bytes of 255 before one that is neither 0 nor a
// restart marker. `size` where it does not.
P3M_API int64_t p3m_scan_end(int level, const uint8_t *data, int64_t size, int64_t at) {
    (void)level;
    const uint8_t *const end = data + size;
    for (const uint8_t *here = data + at; here < end;) {
        const uint8_t *found = memchr(here, 0xFF, (size_t)(end - here));
        if (found == NULL) break;
        for (here = found; here < end && *here == 0xFF;) here++;
        if (here == end) break;
        if (*here != 0 && (*here < 0xD0 || *here > 0xD7)) return found - data;
    }
    return size;
}

// How often a byte of 255 stands before one of another value.
P3M_API int64_t p3m_markers(int level, const uint8_t *data, int64_t size, int value) {
    (void)level;
    int64_t found = 0;
    const uint8_t *const end = data + size;
    for (const uint8_t *here = data; here < end; here++) {
        here = memchr(here, 0xFF, (size_t)(end - here));
        if (here == NULL || here + 1 == end) break;
        found += here[1] == value;
    }
    return found;
}
