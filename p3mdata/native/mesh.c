// The face mesh in integers. Convolutions sum products of 16-bit integers in 32 bits, which their makers have seen to
// suffice; all else is one float operation after another, none of them contracted.
#include "native.h"

#if P3M_X86
#include <immintrin.h>
#elif P3M_ARM
#include <arm_neon.h>
#endif

// Sides of the picture and of the first layer, filters side by side (in the middle of a block also half as many),
// values of a row of any layer, and with a margin of a pixel at each end; the largest integer that a convolution sees,
// and a depthwise one.
enum { SIDE = 256, FIRST = 128, LANES = 16, NARROW = LANES / 2, ROW = 2048, WIDE_ROW = ROW + 2 * 64, STEM_INPUTS = 28,
       MOST = 16383, MOST_OF_SPREAD = 2047 };
// Fields of a block in the plan: numbers of channels, then where its arrays begin among all of their type.
enum { DOWN, IN, MID, OUT, FIRST_WEIGHTS, LAST_WEIGHTS, FIRST_BIASES, LAST_BIASES, POSITIVE, NEGATIVE, SPREAD,
       SPREAD_BIASES, SPREAD_SCALES, SCALES, SLOPES, INVERSE, FIELDS };

// Sums of `pixels` pixels, `step` integers apart: of each, `inputs` integers at `a`, and as many at `b` if that is not
// NULL. Weights are (filters / LANES, all inputs / 2, LANES, 2), sums (pixels, filters). Of NARROW filters there is one
// chunk of as many lanes.
#define PRODUCTS                                                                                                        \
    const int16_t *a, const int16_t *b, int inputs, int step, int pixels, const int16_t *weights,                      \
        const int32_t *biases, int filters, int32_t *sums

#if P3M_X86
static inline __attribute__((always_inline)) int32_t two(const int16_t *x) {
    int32_t both;
    memcpy(&both, x, sizeof both);
    return both;
}

// A tile of P pixels by B times CHUNK filters, sums in registers.
#define P3M_TILE(SET, CHUNK, P, B, VECTOR, PARTS, LOAD, STORE, TWICE, ADD)                                              \
    SET static inline __attribute__((always_inline)) void tile_##CHUNK##_##P##_##B##_##PARTS(                           \
        const int16_t *a, const int16_t *b, int inputs, int step, const int16_t *weights, const int32_t *biases,        \
        int filters, int32_t *sums) {                                                                                   \
        const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * CHUNK;                                                 \
        VECTOR sum[P][B * PARTS];                                                                                       \
        for (int p = 0; p < P; p++)                                                                                     \
            for (int c = 0; c < B * PARTS; c++)                                                                         \
                sum[p][c] = LOAD((const void *)(biases + c * (CHUNK / PARTS)));                                         \
        for (int part = 0; part < (b ? 2 : 1); part++) {                                                                \
            const int16_t *x = part ? b : a, *w = weights + (size_t)part * (size_t)inputs * CHUNK;                      \
            for (int i = 0; i < inputs; i += 2, w += 2 * CHUNK) {                                                       \
                VECTOR some[B * PARTS];                                                                                 \
                for (int c = 0; c < B * PARTS; c++)                                                                     \
                    some[c] = LOAD((const void *)(w + (size_t)(c / PARTS) * chunk + c % PARTS * (2 * CHUNK / PARTS)));  \
                for (int p = 0; p < P; p++) {                                                                           \
                    const VECTOR seen = TWICE(two(x + (size_t)p * (size_t)step + i));                                   \
                    for (int c = 0; c < B * PARTS; c++)                                                                 \
                        sum[p][c] = ADD(sum[p][c], some[c], seen);                                                      \
                }                                                                                                       \
            }                                                                                                           \
        }                                                                                                               \
        for (int p = 0; p < P; p++)                                                                                     \
            for (int c = 0; c < B * PARTS; c++)                                                                         \
                STORE((void *)(sums + (size_t)p * (size_t)filters + c * (CHUNK / PARTS)), sum[p][c]);                   \
    }
#define ADD_SSE2(SUM, W, X) _mm_add_epi32(SUM, _mm_madd_epi16(W, X))
#define ADD_AVX2(SUM, W, X) _mm256_add_epi32(SUM, _mm256_madd_epi16(W, X))
#define TILE_VNNI(P, B)                                                                                                 \
    P3M_TILE(FOR_VNNI, 16, P, B, __m512i, 1, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_set1_epi32, _mm512_dpwssd_epi32)
#define TILE_AVX2(P, B)                                                                                                 \
    P3M_TILE(FOR_AVX2, 16, P, B, __m256i, 2, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32, ADD_AVX2)
#define TILE_SSE2(P, B)                                                                                                 \
    P3M_TILE(, 16, P, B, __m128i, 4, _mm_loadu_si128, _mm_storeu_si128, _mm_set1_epi32, ADD_SSE2)
TILE_VNNI(8, 1)
TILE_VNNI(8, 2)
TILE_VNNI(4, 4)
TILE_VNNI(1, 1)
TILE_VNNI(1, 2)
TILE_VNNI(1, 4)
TILE_AVX2(4, 1)
TILE_AVX2(1, 1)
TILE_SSE2(2, 1)
TILE_SSE2(1, 1)
// Of NARROW filters, which are half a chunk of others.
P3M_TILE(FOR_VNNI, 8, 8, 1, __m256i, 1, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32, _mm256_dpwssd_epi32)
P3M_TILE(FOR_AVX2, 8, 4, 1, __m256i, 1, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32, ADD_AVX2)
P3M_TILE(, 8, 2, 1, __m128i, 2, _mm_loadu_si128, _mm_storeu_si128, _mm_set1_epi32, ADD_SSE2)

// All pixels of NARROW filters, P at once.
#define NARROW_TILES(P, PARTS)                                                                                          \
    if (filters == NARROW) {                                                                                            \
        for (int pixel = 0; pixel < pixels; pixel += P)                                                                 \
            tile_8_##P##_1_##PARTS(a + (size_t)pixel * (size_t)step, b ? b + (size_t)pixel * (size_t)step : b, inputs,  \
                                   step, weights, biases, NARROW, sums + (size_t)pixel * NARROW);                       \
        return;                                                                                                         \
    }
// All tiles of one height of B chunks of filters: P pixels at once, then single ones.
#define TILES(P, B, PARTS)                                                                                              \
    while (filters - filter >= B * LANES) {                                                                             \
        const int16_t *w = weights + (size_t)(filter / LANES) * chunk;                                                  \
        int pixel = 0;                                                                                                  \
        for (; pixel + P <= pixels; pixel += P)                                                                         \
            tile_16_##P##_##B##_##PARTS(a + (size_t)pixel * (size_t)step, b ? b + (size_t)pixel * (size_t)step : b, inputs, \
                                     step, w, biases + filter, filters, sums + (size_t)pixel * (size_t)filters + filter); \
        for (; pixel < pixels; pixel++)                                                                                 \
            tile_16_1_##B##_##PARTS(a + (size_t)pixel * (size_t)step, b ? b + (size_t)pixel * (size_t)step : b, inputs,    \
                                 step, w, biases + filter, filters, sums + (size_t)pixel * (size_t)filters + filter);   \
        filter += B * LANES;                                                                                            \
    }
static void products_generic(PRODUCTS) {
    NARROW_TILES(2, 2)
    const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * LANES;
    int filter = 0;
    TILES(2, 1, 4)
}
FOR_VNNI static void products_vnni(PRODUCTS) {
    NARROW_TILES(8, 1)
    const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * LANES;
    int filter = 0;
    TILES(4, 4, 1)
    TILES(8, 2, 1)
    TILES(8, 1, 1)
}
FOR_AVX2 static void products_avx2(PRODUCTS) {
    NARROW_TILES(4, 1)
    const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * LANES;
    int filter = 0;
    TILES(4, 1, 2)
}
#else
static void products_generic(PRODUCTS) {
    const int lanes = filters < LANES ? filters : LANES;
    const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * (size_t)lanes;
    for (int pixel = 0; pixel < pixels; pixel++)
        for (int filter = 0; filter < filters; filter += lanes) {
            int32_t sum[LANES];
            memcpy(sum, biases + filter, (size_t)lanes * sizeof *sum);
            const int16_t *w = weights + (size_t)(filter / LANES) * chunk;
            for (int part = 0; part < (b ? 2 : 1); part++) {
                const int16_t *x = (part ? b : a) + (size_t)pixel * (size_t)step;
                for (int i = 0; i < inputs; i += 2, w += 2 * lanes)
                    for (int lane = 0; lane < lanes; lane++)
                        sum[lane] += x[i] * w[2 * lane] + x[i + 1] * w[2 * lane + 1];
            }
            memcpy(sums + (size_t)pixel * (size_t)filters + filter, sum, (size_t)lanes * sizeof *sum);
        }
}
#endif

#if P3M_ARM
// A tile of P pixels by EIGHTS times eight filters, sums in registers.
BODY void tile_neon(const int P, const int EIGHTS, const int16_t *a, const int16_t *b, int inputs, int step,
                    const int16_t *weights, const int32_t *biases, int filters, int32_t *sums) {
    int32x4_t sum[4][4];
    for (int p = 0; p < P; p++)
        for (int c = 0; c < 2 * EIGHTS; c++)
            sum[p][c] = vld1q_s32(biases + 4 * c);
    for (int part = 0; part < (b ? 2 : 1); part++) {
        const int16_t *x = part ? b : a, *w = weights + (size_t)part * (size_t)inputs * 8 * (size_t)EIGHTS;
        for (int i = 0; i < inputs; i += 2, w += 16 * EIGHTS) {
            int16x8x2_t pairs[2];
            for (int e = 0; e < EIGHTS; e++)
                pairs[e] = vld2q_s16(w + 16 * e);
            for (int p = 0; p < P; p++) {
                uint32_t both;
                memcpy(&both, x + (size_t)p * (size_t)step + i, sizeof both);
                const int16x4_t two = vcreate_s16(both);
                for (int e = 0; e < EIGHTS; e++) {
                    const int16x8_t one = pairs[e].val[0], other = pairs[e].val[1];
                    sum[p][2 * e] = vmlal_lane_s16(sum[p][2 * e], vget_low_s16(one), two, 0);
                    sum[p][2 * e + 1] = vmlal_high_lane_s16(sum[p][2 * e + 1], one, two, 0);
                    sum[p][2 * e] = vmlal_lane_s16(sum[p][2 * e], vget_low_s16(other), two, 1);
                    sum[p][2 * e + 1] = vmlal_high_lane_s16(sum[p][2 * e + 1], other, two, 1);
                }
            }
        }
    }
    for (int p = 0; p < P; p++)
        for (int c = 0; c < 2 * EIGHTS; c++)
            vst1q_s32(sums + (size_t)p * (size_t)filters + 4 * c, sum[p][c]);
}

static void products_neon(PRODUCTS) {
    const int eights = filters == NARROW ? 1 : 2;
    const size_t chunk = (size_t)(b ? 2 * inputs : inputs) * LANES;
    for (int filter = 0; filter < filters; filter += 8 * eights) {
        const int16_t *w = weights + (size_t)(filter / LANES) * chunk;
        for (int pixel = 0; pixel < pixels;) {
            const int count = pixels - pixel < 4 ? 1 : 4;
            const int16_t *x = a + (size_t)pixel * (size_t)step, *y = b ? b + (size_t)pixel * (size_t)step : NULL;
            int32_t *to = sums + (size_t)pixel * (size_t)filters + filter;
            if (eights == 1 && count == 4)
                tile_neon(4, 1, x, y, inputs, step, w, biases, filters, to);
            else if (count == 4)
                tile_neon(4, 2, x, y, inputs, step, w, biases + filter, filters, to);
            else if (eights == 1)
                tile_neon(1, 1, x, y, inputs, step, w, biases, filters, to);
            else
                tile_neon(1, 2, x, y, inputs, step, w, biases + filter, filters, to);
            pixel += count;
        }
    }
}
#endif

// The nearest integer within the limits, halves to even numbers.
BODY float whole(float value, float most) {
    value = value > most ? most : value;
    value = value < -most ? -most : value;
    return (value + 12582912.0f) - 12582912.0f;
}

// A value times one of two factors, by its sign. Without a branch, which would keep compilers from using vectors.
BODY float sloped(float value, float positive, float negative) {
    const float above = value > 0 ? value : 0, below = value < 0 ? value : 0;
    return above * positive + below * negative;
}

BODY void middle_body(const int32_t *restrict sums, int pixels, int filters, const float *restrict positive,
                      const float *restrict negative, float *restrict seen) {
    for (int pixel = 0; pixel < pixels; pixel++)
        for (int begin = 0; begin < filters; begin += LANES, sums += LANES, seen += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                seen[lane] = whole(sloped((float)sums[lane], positive[begin + lane], negative[begin + lane]), MOST_OF_SPREAD);
            }
}
KERNEL_BELOW_AVX2(middle,
       (const int32_t *sums, int pixels, int filters, const float *positive, const float *negative, float *seen),
       (sums, pixels, filters, positive, negative, seen))

// A row of the depthwise convolution; rows of its input begin with a margin of a pixel, whose values are `next`. Of
// NARROW filters two pixels are as one, and parameters are there twice.
BODY void spread_body(const float *restrict above, const float *restrict here, const float *restrict below, int pixels,
                      int filters, size_t next, const float *restrict weights, const float *restrict biases,
                      const float *restrict scales, int16_t *restrict seen) {
    for (int begin = 0; begin < filters; begin += LANES)
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            const float *restrict w = weights + begin;
            const size_t each = (size_t)filters, last = 2 * next;
            for (int lane = 0; lane < LANES; lane++) {
                const size_t i = at + (size_t)lane;
                const float sum = biases[begin + lane] + above[i] * w[lane] + above[i + next] * w[each + lane] +
                                  above[i + last] * w[2 * each + lane] + here[i] * w[3 * each + lane] +
                                  here[i + next] * w[4 * each + lane] + here[i + last] * w[5 * each + lane] +
                                  below[i] * w[6 * each + lane] + below[i + next] * w[7 * each + lane] +
                                  below[i + last] * w[8 * each + lane];
                seen[i] = (int16_t)whole(sum * scales[begin + lane], MOST);
            }
        }
}
KERNEL_BELOW_AVX2(spread,
       (const float *above, const float *here, const float *below, int pixels, int filters, size_t next,
        const float *weights, const float *biases, const float *scales, int16_t *seen),
       (above, here, below, pixels, filters, next, weights, biases, scales, seen))

// What convolutions see of values.
BODY void seen_body(const float *restrict values, int pixels, int filters, const float *restrict inverse,
                    int16_t *restrict seen) {
    for (int pixel = 0; pixel < pixels; pixel++)
        for (int begin = 0; begin < filters; begin += LANES, values += LANES, seen += LANES)
            for (int lane = 0; lane < LANES; lane++)
                seen[lane] = (int16_t)whole(values[lane] * inverse[begin + lane], MOST);
}
KERNEL_BELOW_AVX2(seen, (const float *values, int pixels, int filters, const float *inverse, int16_t *seen),
       (values, pixels, filters, inverse, seen))

// Values and sums of a block together, in the place of the values.
BODY void added_body(const int32_t *restrict sums, int pixels, int filters, const float *restrict scales,
                     const float *restrict slopes, float *restrict values) {
    for (int pixel = 0; pixel < pixels; pixel++)
        for (int begin = 0; begin < filters; begin += LANES, values += LANES, sums += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                const float product = (float)sums[lane] * scales[begin + lane];
                values[lane] = sloped(product + values[lane], 1, slopes[begin + lane]);
            }
}
KERNEL_BELOW_VNNI(added,
                  (const int32_t *sums, int pixels, int filters, const float *scales, const float *slopes, float *values),
                  (sums, pixels, filters, scales, slopes, values))

// The largest of each 2x2 of two rows, channels filled up with zeros.
BODY void pooled_body(const float *restrict upper, const float *restrict lower, int pixels, int before, int after,
                      float *restrict out) {
    for (int pixel = 0; pixel < pixels; pixel++) {
        for (int channel = 0; channel < before; channel++) {
            const size_t at = (size_t)(2 * pixel) * (size_t)before + (size_t)channel;
            const float left = upper[at] > lower[at] ? upper[at] : lower[at];
            const float right = upper[at + before] > lower[at + before] ? upper[at + before] : lower[at + before];
            out[(size_t)pixel * (size_t)after + channel] = left > right ? left : right;
        }
        memset(out + (size_t)pixel * (size_t)after + before, 0, (size_t)(after - before) * sizeof(float));
    }
}
KERNEL(pooled, (const float *upper, const float *lower, int pixels, int before, int after, float *out),
       (upper, lower, pixels, before, after, out))

#if P3M_X86
// Added to an integer, it has that in its lowest bits, and halves are rounded to even numbers.
#define TO_WHOLE 12582912.0f

// The same by vectors, of which compilers make detours for limits and for what becomes shorts. All sums of `spread` are
// exact, so that fused operations give the same.
#define AVX2_INLINE FOR_AVX2 static inline __attribute__((always_inline))
enum { HALF = LANES / 2 };

AVX2_INLINE __m256 shifted_half(__m256 value, float most) {
    value = _mm256_max_ps(_mm256_min_ps(value, _mm256_set1_ps(most)), _mm256_set1_ps(-most));
    return _mm256_add_ps(value, _mm256_set1_ps(TO_WHOLE));
}

AVX2_INLINE void put_seen_halves(__m256 low, __m256 high, int16_t *seen) {
    const __m256i none = _mm256_castps_si256(_mm256_set1_ps(TO_WHOLE));
    const __m256i one = _mm256_sub_epi32(_mm256_castps_si256(shifted_half(low, MOST)), none);
    const __m256i two = _mm256_sub_epi32(_mm256_castps_si256(shifted_half(high, MOST)), none);
    _mm256_storeu_si256((void *)seen, _mm256_permute4x64_epi64(_mm256_packs_epi32(one, two), 0xD8));
}

FOR_AVX2 static void middle_avx2(const int32_t *sums, int pixels, int filters, const float *positive,
                                 const float *negative, float *seen) {
    for (int begin = 0; begin < filters; begin += HALF) {
        const __m256 above = _mm256_loadu_ps(positive + begin), below = _mm256_loadu_ps(negative + begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            const __m256 sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const void *)(sums + at)));
            const __m256 value = _mm256_mul_ps(sum, _mm256_blendv_ps(above, below, sum));
            _mm256_storeu_ps(seen + at, _mm256_sub_ps(shifted_half(value, MOST_OF_SPREAD), _mm256_set1_ps(TO_WHOLE)));
        }
    }
}

FOR_AVX2 static void spread_avx2(const float *above, const float *here, const float *below, int pixels, int filters,
                                 size_t next, const float *weights, const float *biases, const float *scales,
                                 int16_t *seen) {
    for (int begin = 0; begin < filters; begin += HALF) {
        const __m256 bias = _mm256_loadu_ps(biases + begin), scale = _mm256_loadu_ps(scales + begin);
        __m256 w[9];
#pragma GCC unroll 9
        for (int tap = 0; tap < 9; tap++)
            w[tap] = _mm256_loadu_ps(weights + (size_t)tap * (size_t)filters + (size_t)begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            __m256 sum = bias;
#pragma GCC unroll 3
            for (int tap = 0; tap < 3; tap++) {
                const size_t i = at + (size_t)tap * next;
                sum = _mm256_fmadd_ps(_mm256_loadu_ps(above + i), w[tap], sum);
                sum = _mm256_fmadd_ps(_mm256_loadu_ps(here + i), w[3 + tap], sum);
                sum = _mm256_fmadd_ps(_mm256_loadu_ps(below + i), w[6 + tap], sum);
            }
            const __m256i bits = _mm256_castps_si256(shifted_half(_mm256_mul_ps(sum, scale), MOST));
            const __m256i made = _mm256_sub_epi32(bits, _mm256_castps_si256(_mm256_set1_ps(TO_WHOLE)));
            _mm_storeu_si128((void *)(seen + at),
                             _mm_packs_epi32(_mm256_castsi256_si128(made), _mm256_extracti128_si256(made, 1)));
        }
    }
}

FOR_AVX2 static void seen_avx2(const float *values, int pixels, int filters, const float *inverse, int16_t *seen) {
    for (int begin = 0; begin < filters; begin += LANES) {
        const __m256 low = _mm256_loadu_ps(inverse + begin), high = _mm256_loadu_ps(inverse + begin + HALF);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            put_seen_halves(_mm256_mul_ps(_mm256_loadu_ps(values + at), low),
                            _mm256_mul_ps(_mm256_loadu_ps(values + at + HALF), high), seen + at);
        }
    }
}

// By vectors of 512 bits, of which compilers make two of 256 and limits by masks.
#define VNNI_INLINE FOR_VNNI static inline __attribute__((always_inline))

VNNI_INLINE __m512 shifted(__m512 value, float most) {
    value = _mm512_max_ps(_mm512_min_ps(value, _mm512_set1_ps(most)), _mm512_set1_ps(-most));
    return _mm512_add_ps(value, _mm512_set1_ps(TO_WHOLE));
}

VNNI_INLINE void put_seen(__m512 value, int16_t *seen) {
    const __m512i bits = _mm512_castps_si512(shifted(value, MOST));
    _mm256_storeu_si256((void *)seen, _mm512_cvtepi32_epi16(bits));
}

VNNI_INLINE __m512 by_sign(__m512 value, __m512 positive, __m512 negative) {
    const __mmask16 below = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mul_ps(value, _mm512_mask_blend_ps(below, positive, negative));
}

FOR_VNNI static void middle_vnni(const int32_t *sums, int pixels, int filters, const float *positive,
                                 const float *negative, float *seen) {
    for (int begin = 0; begin < filters; begin += LANES) {
        const __m512 above = _mm512_loadu_ps(positive + begin), below = _mm512_loadu_ps(negative + begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            const __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + at));
            const __m512 value = shifted(by_sign(sum, above, below), MOST_OF_SPREAD);
            _mm512_storeu_ps(seen + at, _mm512_sub_ps(value, _mm512_set1_ps(TO_WHOLE)));
        }
    }
}

FOR_VNNI static void spread_vnni(const float *above, const float *here, const float *below, int pixels, int filters,
                                 size_t next, const float *weights, const float *biases, const float *scales,
                                 int16_t *seen) {
    for (int begin = 0; begin < filters; begin += LANES) {
        const __m512 bias = _mm512_loadu_ps(biases + begin), scale = _mm512_loadu_ps(scales + begin);
        __m512 w[9];
        for (int tap = 0; tap < 9; tap++)
            w[tap] = _mm512_loadu_ps(weights + (size_t)tap * (size_t)filters + (size_t)begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            __m512 sum = bias;
            for (int tap = 0; tap < 3; tap++) {
                const size_t i = at + (size_t)tap * next;
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(above + i), w[tap], sum);
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(here + i), w[3 + tap], sum);
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(below + i), w[6 + tap], sum);
            }
            put_seen(_mm512_mul_ps(sum, scale), seen + at);
        }
    }
}

FOR_VNNI static void seen_vnni(const float *values, int pixels, int filters, const float *inverse, int16_t *seen) {
    for (int begin = 0; begin < filters; begin += LANES) {
        const __m512 scale = _mm512_loadu_ps(inverse + begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            put_seen(_mm512_mul_ps(_mm512_loadu_ps(values + at), scale), seen + at);
        }
    }
}

FOR_VNNI static void added_vnni(const int32_t *sums, int pixels, int filters, const float *scales, const float *slopes,
                                float *values) {
    for (int begin = 0; begin < filters; begin += LANES) {
        const __m512 scale = _mm512_loadu_ps(scales + begin), slope = _mm512_loadu_ps(slopes + begin);
        for (int pixel = 0; pixel < pixels; pixel++) {
            const size_t at = (size_t)pixel * (size_t)filters + (size_t)begin;
            const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + at)), scale);
            const __m512 value = _mm512_add_ps(product, _mm512_loadu_ps(values + at));
            _mm512_storeu_ps(values + at, by_sign(value, _mm512_set1_ps(1), slope));
        }
    }
}
#endif

static void products(int level, PRODUCTS) {
#if P3M_ARM
    if (level >= NEON) {
        products_neon(a, b, inputs, step, pixels, weights, biases, filters, sums);
        return;
    }
#endif
    CALL(products, level, (a, b, inputs, step, pixels, weights, biases, filters, sums));
}

// Pixels of a row as the first layer takes them: 3x3 of three channels each, what lies beyond the picture is 0.
static void gather(const uint8_t *rgb, ptrdiff_t stride, int y, int16_t *out) {
    for (int x = 0; x < FIRST; x++, out += STEM_INPUTS) {
        memset(out, 0, STEM_INPUTS * sizeof *out);
        const int count = x + 1 < FIRST ? 9 : 6;
        for (int row = 0; row < 3 && 2 * y + row < SIDE; row++)
            for (int i = 0; i < count; i++)
                out[9 * row + i] = rgb[(2 * y + row) * stride + 6 * x + i];
    }
}

// The network's outputs, (outputs,) floats, of a picture (SIDE, SIDE, 3), rows `stride` bytes apart. `plan` has FIELDS
// numbers for each of `blocks` blocks; the first and the last layer have the places before all others' and after them.
// `values` is memory for two layers, the second from `half` on.
P3M_API void p3m_mesh(int level, const uint8_t *rgb, ptrdiff_t stride, const int32_t *plan, int blocks,
                      const int16_t *weights, const int32_t *biases, const float *floats, const int32_t *head,
                      float *values, ptrdiff_t half, int outputs, float *out) {
    _Alignas(64) int32_t sums[ROW];
    _Alignas(64) float ring[3][WIDE_ROW], nothing[WIDE_ROW];
    // Two rows before a halving are as long as four after it.
    _Alignas(64) int16_t row[2 * ROW];
    memset(nothing, 0, sizeof nothing);
    for (int y = 0; y < FIRST; y++) {
        gather(rgb, stride, y, row);
        products(level, row, NULL, STEM_INPUTS, STEM_INPUTS, FIRST, weights, biases, LANES, sums);
        float *at = values + (size_t)y * FIRST * LANES;
        memset(at, 0, FIRST * LANES * sizeof *at);
        CALL(added, level, (sums, FIRST, LANES, floats, floats + LANES, at));
    }
    int side = FIRST;
    float *value = values, *other = values + half;
    for (const int32_t *block = plan; block < plan + (size_t)blocks * FIELDS; block += FIELDS) {
        const int down = block[DOWN], in = block[IN], mid = block[MID], to = block[OUT];
        const int before = side;
        side = down ? side / 2 : side;
        float *made = down ? other : value;
        // Parameters are there for whole vectors.
        const int lanes = mid < LANES ? LANES : mid, vectors = side * mid / lanes;
        const size_t margin = (size_t)mid, wide = (size_t)(side + 2) * (size_t)mid;
        for (int i = 0; i < 3; i++)
            memset(ring[i], 0, wide * sizeof(float));
        for (int y = 0; y <= side; y++) {
            if (y < side) {
                const int rows = down ? 2 : 1;
                const size_t size = (size_t)before * (size_t)in;
                CALL(seen, level,
                     (value + (size_t)(rows * y) * size, rows * before, in, floats + block[INVERSE], row));
                products(level, row, down ? row + size : NULL, rows * in, rows * in, side,
                         weights + block[FIRST_WEIGHTS], biases + block[FIRST_BIASES], mid, sums);
                CALL(middle, level,
                     (sums, vectors, lanes, floats + block[POSITIVE], floats + block[NEGATIVE], ring[y % 3] + margin));
            }
            if (y == 0)
                continue;
            const int at = y - 1;
            CALL(spread, level,
                 (at ? ring[(at + 2) % 3] : nothing, ring[at % 3], y < side ? ring[y % 3] : nothing, vectors,
                  lanes, margin, floats + block[SPREAD], floats + block[SPREAD_BIASES], floats + block[SPREAD_SCALES],
                  row));
            products(level, row, NULL, mid, mid, side, weights + block[LAST_WEIGHTS], biases + block[LAST_BIASES], to, sums);
            float *place = made + (size_t)at * (size_t)side * (size_t)to;
            if (down) {
                const float *upper = value + 2 * (size_t)at * (size_t)before * (size_t)in;
                CALL(pooled, level, (upper, upper + (size_t)before * (size_t)in, side, in, to, place));
            }
            CALL(added, level, (sums, side, to, floats + block[SCALES], floats + block[SLOPES], place));
        }
        if (down)
            other = value, value = made;
    }
    const int32_t count = head[2];
    CALL(seen, level, (value, side * side, head[0] / (side * side), floats + head[5], row));
    products(level, row, NULL, head[0], head[0], 1, weights + head[1], biases + head[3], count, sums);
    const float *scales = floats + head[4];
    for (int i = 0; i < outputs; i++)
        out[i] = (float)sums[i] * scales[i];
}
