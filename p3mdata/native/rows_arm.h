// Vectors of two times 128 bits, for both instruction sets of 64-bit ARM. Whoever includes this defines FN, ROWS and
// WITH_DOTS: whether there are dot products of bytes.
//
// Unlike elsewhere, pairs of shorts lie apart (all first ones, then all second ones), since vectors are multiplied with one
// short or four bytes of another vector; and bytes have a sign, since dot products take no others: stored is the value less
// 128 where it is not negative, and else the value itself.
#include <arm_neon.h>

#define V static inline __attribute__((always_inline)) FN
#define HAS_PACKS 1
#define PAIRS_APART 1
enum { LANES = 8, HAS_BYTES = WITH_DOTS };
// Sums of so many pixels take 24 of 32 registers, weights 4.
#define MOST_PIXELS 6
#define MOST_VECTORS 2
enum { PIXELS_OF_1 = 4, PIXELS_OF_2 = 6 };

typedef struct {
    int32x4_t low, high;
} ints;
typedef struct {
    float32x4_t low, high;
} reals;
// The first four bytes are those meant.
typedef int32x2_t fours;

V ints v_of_shorts(int16x8_t a, int16x8_t b) { return (ints){vreinterpretq_s32_s16(a), vreinterpretq_s32_s16(b)}; }
V int16x8_t v_first(ints pairs) { return vreinterpretq_s16_s32(pairs.low); }
V int16x8_t v_second(ints pairs) { return vreinterpretq_s16_s32(pairs.high); }
V int16x8_t v_shorts_at(const uint8_t *from) { return vreinterpretq_s16_u8(vld1q_u8(from)); }
V int16x8_t v_bytes_at(const uint8_t *from) { return vmovl_s8(vreinterpret_s8_u8(vld1_u8(from))); }
V ints v_widened(int16x8_t shorts) { return (ints){vmovl_s16(vget_low_s16(shorts)), vmovl_high_s16(shorts)}; }
// What a short cannot hold becomes the nearest that it can.
V int16x8_t v_narrowed(ints values) { return vqmovn_high_s32(vqmovn_s32(values.low), values.high); }

V ints v_all(int value) { return (ints){vdupq_n_s32(value), vdupq_n_s32(value)}; }
V ints v_load(const void *from) {
    return (ints){vreinterpretq_s32_u8(vld1q_u8(from)), vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)from + 16))};
}
V reals v_load_reals(const float *from) { return (reals){vld1q_f32(from), vld1q_f32(from + 4)}; }
V void v_store_reals(float *to, reals values) {
    vst1q_f32(to, values.low);
    vst1q_f32(to + 4, values.high);
}
V ints v_load_bytes(const uint8_t *from) { return v_widened(v_bytes_at(from)); }
V ints v_load_shorts(const uint8_t *from) { return v_widened(v_shorts_at(from)); }
V void v_store_bytes(uint8_t *to, ints values) { vst1_u8(to, vreinterpret_u8_s8(vmovn_s16(v_narrowed(values)))); }
V void v_store_shorts(uint8_t *to, ints values) { vst1q_u8(to, vreinterpretq_u8_s16(v_narrowed(values))); }
V ints v_add(ints a, ints b) { return (ints){vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
V ints v_larger(ints a, ints b) { return (ints){vmaxq_s32(a.low, b.low), vmaxq_s32(a.high, b.high)}; }
V ints v_smaller(ints a, ints b) { return (ints){vminq_s32(a.low, b.low), vminq_s32(a.high, b.high)}; }
V reals v_reals(ints values) { return (reals){vcvtq_f32_s32(values.low), vcvtq_f32_s32(values.high)}; }
V reals v_times(reals a, reals b) { return (reals){vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
V ints v_nearest(reals values) { return (ints){vcvtnq_s32_f32(values.low), vcvtnq_s32_f32(values.high)}; }
V reals v_clip(reals values, float low, float high) {
    const float32x4_t least = vdupq_n_f32(low), most = vdupq_n_f32(high);
    return (reals){vminq_f32(vmaxq_f32(values.low, least), most), vminq_f32(vmaxq_f32(values.high, least), most)};
}
V void v_store(uint8_t *to, ints values) {
    vst1q_u8(to, vreinterpretq_u8_s32(values.low));
    vst1q_u8(to + 16, vreinterpretq_u8_s32(values.high));
}
V void v_store_half(uint8_t *to, ints values, const int which) {
    vst1q_u8(to, vreinterpretq_u8_s32(which ? values.high : values.low));
}
V void v_store_quarter(uint8_t *to, ints values, const int which) {
    const uint8x16_t half = vreinterpretq_u8_s32(which < 2 ? values.low : values.high);
    vst1_u8(to, which % 2 ? vget_high_u8(half) : vget_low_u8(half));
}

// Two vectors of shorts as one of bytes, which keeps them within what a byte holds.
V int32x4_t v_packed(int16x8_t a, int16x8_t b, int low) {
    if (low >= 0)
        return vreinterpretq_s32_u8(veorq_u8(vqmovun_high_s16(vqmovun_s16(a), b), vdupq_n_u8(128)));
    return vreinterpretq_s32_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(a), b), vdupq_n_s8((int8_t)low)));
}
V void v_store_nearest_bytes(uint8_t *to, reals values, int low, int high, int zero) {
    (void)high, (void)zero;
    const int16x8_t shorts = v_narrowed(v_nearest(values));
    vst1_u8(to, vget_low_u8(vreinterpretq_u8_s32(v_packed(shorts, shorts, low))));
}
V ints v_pack_four(const reals values[4], int low, int zero) {
    (void)zero;
    const int16x8_t a = v_narrowed(v_nearest(values[0])), b = v_narrowed(v_nearest(values[1]));
    const int16x8_t c = v_narrowed(v_nearest(values[2])), d = v_narrowed(v_nearest(values[3]));
    return (ints){v_packed(a, b, low), v_packed(c, d, low)};
}
V int16x8_t v_within(int16x8_t shorts, int low, int high) {
    return vminq_s16(vmaxq_s16(shorts, vdupq_n_s16((int16_t)low)), vdupq_n_s16((int16_t)high));
}
V ints v_pack_two(const reals values[2], int low, int high) {
    return v_of_shorts(v_within(v_narrowed(v_nearest(values[0])), low, high),
                       v_within(v_narrowed(v_nearest(values[1])), low, high));
}
V uint16x8_t v_positive(reals values, int high) {
    const ints whole = v_nearest(values);
    return vminq_u16(vqmovun_high_s32(vqmovun_s32(whole.low), whole.high), vdupq_n_u16((uint16_t)high));
}
V ints v_pack_two_positive(const reals values[2], int high) {
    return v_of_shorts(vreinterpretq_s16_u16(v_positive(values[0], high)),
                       vreinterpretq_s16_u16(v_positive(values[1], high)));
}
// Up to 32 bytes; there are 16 at least, since that many channels are stored together.
V void v_store_first(uint8_t *to, ints values, size_t count) {
    if (count >= 32)
        v_store(to, values);
    else
        v_store_half(to, values, 0);
}
// Of CHANNELS_STEP bytes each.
V void v_store_largest(uint8_t *to, const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d, int bytes) {
    const int8x16_t one = vreinterpretq_s8_u8(vld1q_u8(a)), two = vreinterpretq_s8_u8(vld1q_u8(b));
    const int8x16_t three = vreinterpretq_s8_u8(vld1q_u8(c)), four = vreinterpretq_s8_u8(vld1q_u8(d));
    if (bytes)
        vst1q_u8(to, vreinterpretq_u8_s8(vmaxq_s8(vmaxq_s8(one, two), vmaxq_s8(three, four))));
    else
        vst1q_u8(to, vreinterpretq_u8_s16(vmaxq_s16(vmaxq_s16(vreinterpretq_s16_s8(one), vreinterpretq_s16_s8(two)),
                                                    vmaxq_s16(vreinterpretq_s16_s8(three), vreinterpretq_s16_s8(four)))));
}
// Sums of stored values: shorts, bytes that stand for 0 to 255, and bytes of -127 to 127.
V ints v_sum_shorts(ints a, ints b, int low, int high) {
    return v_of_shorts(v_within(vqaddq_s16(v_first(a), v_first(b)), low, high),
                       v_within(vqaddq_s16(v_second(a), v_second(b)), low, high));
}
V int32x4_t v_positive_sum(int32x4_t a, int32x4_t b) {
    const uint8x16_t middle = vdupq_n_u8(128);
    const uint8x16_t one = veorq_u8(vreinterpretq_u8_s32(a), middle), two = veorq_u8(vreinterpretq_u8_s32(b), middle);
    return vreinterpretq_s32_u8(veorq_u8(vqaddq_u8(one, two), middle));
}
V ints v_sum_positive(ints a, ints b) { return (ints){v_positive_sum(a.low, b.low), v_positive_sum(a.high, b.high)}; }
V int32x4_t v_signed_sum(int32x4_t a, int32x4_t b, int low) {
    const int8x16_t sum = vqaddq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
    return vreinterpretq_s32_s8(vmaxq_s8(sum, vdupq_n_s8((int8_t)low)));
}
V ints v_sum_signed(ints a, ints b, int low) {
    return (ints){v_signed_sum(a.low, b.low, low), v_signed_sum(a.high, b.high, low)};
}
// The first of each pair of shorts becomes the second one, or the other way round; the other is 0.
V ints v_up(ints pairs) { return (ints){vdupq_n_s32(0), pairs.low}; }
V ints v_down(ints pairs) { return (ints){pairs.high, vdupq_n_s32(0)}; }
V ints v_either(ints a, ints b) { return (ints){vorrq_s32(a.low, b.low), vorrq_s32(a.high, b.high)}; }

V ints v_singles(const uint8_t *from) { return v_of_shorts(v_shorts_at(from), vdupq_n_s16(0)); }
V ints v_byte_singles(const uint8_t *from) { return v_of_shorts(v_bytes_at(from), vdupq_n_s16(0)); }
V ints v_pairs(const uint8_t *first, const uint8_t *second) { return v_of_shorts(v_shorts_at(first), v_shorts_at(second)); }
V ints v_byte_pairs(const uint8_t *first, const uint8_t *second) {
    return v_of_shorts(v_bytes_at(first), v_bytes_at(second));
}
V ints v_products(ints sum, int16x8_t a, int16x8_t b) {
    return (ints){vmlal_s16(sum.low, vget_low_s16(a), vget_low_s16(b)), vmlal_high_s16(sum.high, a, b)};
}
V ints v_dot_first(ints sum, ints a, ints b) { return v_products(sum, v_first(a), v_first(b)); }
V ints v_dot_second(ints sum, ints a, ints b) { return v_products(sum, v_second(a), v_second(b)); }
V ints v_dot(ints sum, ints a, ints b) { return v_dot_second(v_dot_first(sum, a, b), a, b); }

V fours v_four_bytes(const uint8_t *from) {
    uint32_t four;
    memcpy(&four, from, 4);
    return vcreate_s32(four);
}
V ints v_dot_shorts(ints sum, fours values, ints row) {
    const int16x4_t two = vreinterpret_s16_s32(values);
    sum.low = vmlal_lane_s16(sum.low, vget_low_s16(v_first(row)), two, 0);
    sum.high = vmlal_high_lane_s16(sum.high, v_first(row), two, 0);
    sum.low = vmlal_lane_s16(sum.low, vget_low_s16(v_second(row)), two, 1);
    sum.high = vmlal_high_lane_s16(sum.high, v_second(row), two, 1);
    return sum;
}
#if WITH_DOTS
V ints v_dot_bytes(ints sum, fours values, ints row) {
    const int8x8_t four = vreinterpret_s8_s32(values);
    sum.low = vdotq_lane_s32(sum.low, vreinterpretq_s8_s32(row.low), four, 0);
    sum.high = vdotq_lane_s32(sum.high, vreinterpretq_s8_s32(row.high), four, 0);
    return sum;
}
#else
// There are no bytes.
V ints v_dot_bytes(ints sum, fours values, ints row) { return v_dot_shorts(sum, values, row); }
#endif

#include "rows.h"
