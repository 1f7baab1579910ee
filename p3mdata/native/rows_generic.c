// Rows of layers in plain C: what the other instruction sets must give too.
#include "network.h"

#define FN
#define V static inline __attribute__((always_inline))
#define ROWS p3m_rows_generic
#define HAS_PACKS 0
enum { LANES = 8, HAS_BYTES = 0 };
#define MOST_PIXELS 2
#define MOST_VECTORS 2
enum { PIXELS_OF_1 = 2, PIXELS_OF_2 = 2 };
#define EACH for (int j = 0; j < LANES; j++)

typedef struct {
    int32_t at[LANES];
} ints;
typedef struct {
    float at[LANES];
} reals;

V ints v_all(int value) {
    ints all;
    EACH all.at[j] = value;
    return all;
}
V ints v_load(const void *from) {
    ints values;
    memcpy(&values, from, sizeof values);
    return values;
}
V reals v_load_reals(const float *from) {
    reals values;
    memcpy(&values, from, sizeof values);
    return values;
}
V void v_store_reals(float *to, reals values) { memcpy(to, &values, sizeof values); }
V ints v_load_bytes(const uint8_t *from) {
    ints values;
    EACH values.at[j] = from[j];
    return values;
}
V ints v_load_shorts(const uint8_t *from) {
    int16_t shorts[LANES];
    ints values;
    memcpy(shorts, from, sizeof shorts);
    EACH values.at[j] = shorts[j];
    return values;
}
V void v_store_bytes(uint8_t *to, ints values) { EACH to[j] = (uint8_t)values.at[j]; }
V void v_store_shorts(uint8_t *to, ints values) {
    int16_t shorts[LANES];
    EACH shorts[j] = (int16_t)values.at[j];
    memcpy(to, shorts, sizeof shorts);
}
V ints v_add(ints a, ints b) {
    EACH a.at[j] += b.at[j];
    return a;
}
V ints v_larger(ints a, ints b) {
    EACH a.at[j] = a.at[j] > b.at[j] ? a.at[j] : b.at[j];
    return a;
}
V ints v_smaller(ints a, ints b) {
    EACH a.at[j] = a.at[j] < b.at[j] ? a.at[j] : b.at[j];
    return a;
}
V reals v_reals(ints values) {
    reals made;
    EACH made.at[j] = (float)values.at[j];
    return made;
}
V reals v_times(reals a, reals b) {
    EACH a.at[j] *= b.at[j];
    return a;
}
V reals v_clip(reals values, float low, float high) {
    EACH values.at[j] = values.at[j] < low ? low : values.at[j];
    EACH values.at[j] = values.at[j] > high ? high : values.at[j];
    return values;
}
// Halves go to the even neighbour: floats beyond 2^23 have no places behind the point.
V ints v_nearest(reals values) {
    const float shift = 12582912.0F;
    ints made;
    EACH made.at[j] = (int32_t)((values.at[j] + shift) - shift);
    return made;
}
// Two shorts, or as many for every lane.
V ints v_four_bytes(const uint8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return v_all(four);
}
V int32_t low_short(int32_t pair) { return (int16_t)(uint16_t)((uint32_t)pair & 0xFFFF); }
V int32_t high_short(int32_t pair) { return (int16_t)(uint16_t)((uint32_t)pair >> 16); }
V ints v_dot(ints sum, ints a, ints b) {
    EACH sum.at[j] += low_short(a.at[j]) * low_short(b.at[j]) + high_short(a.at[j]) * high_short(b.at[j]);
    return sum;
}
V ints v_singles(const uint8_t *from) {
    ints values = v_load_shorts(from);
    EACH values.at[j] &= 0xFFFF;
    return values;
}
V ints v_pairs(const uint8_t *first, const uint8_t *second) {
    const ints a = v_singles(first), b = v_singles(second);
    ints pairs;
    EACH pairs.at[j] = (int32_t)((uint32_t)a.at[j] | (uint32_t)b.at[j] << 16);
    return pairs;
}

#include "rows.h"
