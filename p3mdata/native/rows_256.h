// Vectors of 256 bits, which AVX2 and the dot products behind it have in common. Whoever includes this defines FN, ROWS,
// HAS_BYTES and the functions v_dot and v_dot_bytes, which WITH_DOTS stands for.
#include <immintrin.h>

#define V static inline __attribute__((always_inline)) FN
#define HAS_PACKS 1
enum { LANES = 8 };
// Sums of so many pixels and vectors, the vectors and what they are multiplied with fill the sixteen registers.
#define MOST_PIXELS 6
#define MOST_VECTORS 2
enum { PIXELS_OF_1 = 4, PIXELS_OF_2 = 6 };

typedef __m256i ints;
typedef __m256 reals;

V ints v_all(int value) { return _mm256_set1_epi32(value); }
V ints v_load(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
V reals v_load_reals(const float *from) { return _mm256_loadu_ps(from); }
V void v_store_reals(float *to, reals values) { _mm256_storeu_ps(to, values); }
V ints v_load_bytes(const uint8_t *from) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)); }
V ints v_load_shorts(const uint8_t *from) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)from)); }
V __m128i v_shorts(ints values) {
    return _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
}
V void v_store_bytes(uint8_t *to, ints values) {
    const __m128i shorts = v_shorts(values);
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(shorts, shorts));
}
V void v_store_shorts(uint8_t *to, ints values) { _mm_storeu_si128((__m128i *)to, v_shorts(values)); }
V ints v_add(ints a, ints b) { return _mm256_add_epi32(a, b); }
V ints v_larger(ints a, ints b) { return _mm256_max_epi32(a, b); }
V ints v_smaller(ints a, ints b) { return _mm256_min_epi32(a, b); }
V reals v_reals(ints values) { return _mm256_cvtepi32_ps(values); }
V reals v_times(reals a, reals b) { return _mm256_mul_ps(a, b); }
V ints v_nearest(reals values) { return _mm256_cvtps_epi32(values); }
V reals v_clip(reals values, float low, float high) {
    return _mm256_min_ps(_mm256_max_ps(values, _mm256_set1_ps(low)), _mm256_set1_ps(high));
}
V void v_store_nearest_bytes(uint8_t *to, reals values, int low, int high, int zero) {
    v_store_bytes(to, v_add(v_nearest(v_clip(values, (float)low, (float)high)), v_all(zero)));
}
// Four vectors of bytes, or two of shorts: packed together, which keeps them within what a byte or a short holds.
V ints v_pack_four(const reals values[4], int low, int zero) {
    ints bytes;
    const ints first = _mm256_packs_epi32(v_nearest(values[0]), v_nearest(values[1]));
    const ints second = _mm256_packs_epi32(v_nearest(values[2]), v_nearest(values[3]));
    if (zero == 0) {
        bytes = _mm256_packus_epi16(first, second);
    } else {
        bytes = _mm256_max_epi8(_mm256_packs_epi16(first, second), _mm256_set1_epi8((char)low));
        bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8((char)zero));
    }
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
V ints v_pack_two(const reals values[2], int low, int high) {
    ints shorts = _mm256_packs_epi32(v_nearest(values[0]), v_nearest(values[1]));
    shorts = _mm256_min_epi16(_mm256_max_epi16(shorts, _mm256_set1_epi16((short)low)), _mm256_set1_epi16((short)high));
    return _mm256_permute4x64_epi64(shorts, 0xD8);
}
V ints v_pack_two_positive(const reals values[2], int high) {
    const ints shorts = _mm256_packus_epi32(v_nearest(values[0]), v_nearest(values[1]));
    return _mm256_permute4x64_epi64(_mm256_min_epu16(shorts, _mm256_set1_epi16((short)high)), 0xD8);
}
V void v_store(uint8_t *to, ints values) { _mm256_storeu_si256((__m256i *)to, values); }
V void v_store_half(uint8_t *to, ints values, const int which) {
    _mm_storeu_si128((__m128i *)to, which ? _mm256_extracti128_si256(values, 1) : _mm256_castsi256_si128(values));
}
V void v_store_quarter(uint8_t *to, ints values, const int which) {
    const __m128i half = which < 2 ? _mm256_castsi256_si128(values) : _mm256_extracti128_si256(values, 1);
    if (which % 2)
        _mm_storeh_pd((double *)(void *)to, _mm_castsi128_pd(half));
    else
        _mm_storel_epi64((__m128i *)to, half);
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
    const __m128i one = _mm_loadu_si128((const __m128i *)a), two = _mm_loadu_si128((const __m128i *)b);
    const __m128i three = _mm_loadu_si128((const __m128i *)c), four = _mm_loadu_si128((const __m128i *)d);
    _mm_storeu_si128((__m128i *)to, bytes ? _mm_max_epu8(_mm_max_epu8(one, two), _mm_max_epu8(three, four))
                                          : _mm_max_epi16(_mm_max_epi16(one, two), _mm_max_epi16(three, four)));
}
// Sums of stored values: shorts, bytes of 0 to 255, and bytes that count from 128 and are -127 to 127.
V ints v_sum_shorts(ints a, ints b, int low, int high) {
    const ints sum = _mm256_adds_epi16(a, b);
    return _mm256_min_epi16(_mm256_max_epi16(sum, _mm256_set1_epi16((short)low)), _mm256_set1_epi16((short)high));
}
V ints v_sum_positive(ints a, ints b) { return _mm256_adds_epu8(a, b); }
V ints v_sum_signed(ints a, ints b, int low) {
    const ints middle = _mm256_set1_epi8(-128);
    const ints sum = _mm256_adds_epi8(_mm256_xor_si256(a, middle), _mm256_xor_si256(b, middle));
    return _mm256_xor_si256(_mm256_max_epi8(sum, _mm256_set1_epi8((char)low)), middle);
}
// The lower of each pair of shorts becomes the upper one, or the other way round; the other is 0.
V ints v_up(ints pairs) { return _mm256_slli_epi32(pairs, 16); }
V ints v_down(ints pairs) { return _mm256_srli_epi32(pairs, 16); }
V ints v_either(ints a, ints b) { return _mm256_or_si256(a, b); }
V ints v_four_bytes(const uint8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}
V ints v_singles(const uint8_t *from) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)); }
V ints v_pairs(const uint8_t *first, const uint8_t *second) {
    const __m128i a = _mm_loadu_si128((const __m128i *)first), b = _mm_loadu_si128((const __m128i *)second);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
}
V ints v_byte_singles(const uint8_t *from) { return v_load_bytes(from); }
V ints v_byte_pairs(const uint8_t *first, const uint8_t *second) {
    const __m128i a = _mm_loadl_epi64((const __m128i *)first), b = _mm_loadl_epi64((const __m128i *)second);
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
}

WITH_DOTS

#include "rows.h"
