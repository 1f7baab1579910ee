// Images as networks take them.
#include "native.h"

BODY void planes_body(const uint8_t *rgb, ptrdiff_t stride, int height, int width, float *out, int rows, int columns,
                      int reverse) {
    const size_t plane = (size_t)rows * (size_t)columns;
    for (int y = 0; y < rows; y++) {
        float *restrict first = out + (size_t)y * (size_t)columns;
        float *restrict second = first + plane, *restrict third = second + plane;
        int x = 0;
        if (y < height) {
            const uint8_t *restrict row = rgb + y * stride;
            float *restrict red = reverse ? third : first, *restrict blue = reverse ? first : third;
            for (; x < width; x++) {
                red[x] = row[3 * (size_t)x];
                second[x] = row[3 * (size_t)x + 1];
                blue[x] = row[3 * (size_t)x + 2];
            }
        }
        const size_t rest = (size_t)(columns - x) * sizeof(float);
        memset(first + x, 0, rest);
        memset(second + x, 0, rest);
        memset(third + x, 0, rest);
    }
}

KERNEL(planes,
       (const uint8_t *rgb, ptrdiff_t stride, int height, int width, float *out, int rows, int columns, int reverse),
       (rgb, stride, height, width, out, rows, columns, reverse))

// (height, width, 3) bytes, rows `stride` bytes apart, as (3, rows, columns) floats, filled up with zeros; `reverse`
// puts blue first.
P3M_API void p3m_planes(int level, const uint8_t *rgb, ptrdiff_t stride, int height, int width, float *out, int rows,
                        int columns, int reverse) {
    CALL(planes, level, (rgb, stride, height, width, out, rows, columns, reverse));
}
