// Rows of layers by AVX-512 with dot products of integers.
#include "network.h"

#if P3M_X86
#include <immintrin.h>

#define FN FOR_VNNI
#define V static inline __attribute__((always_inline)) FN
#define ROWS p3m_rows_vnni
#define HAS_PACKS 1
enum { LANES = 16, HAS_BYTES = 1 };
#define MOST_PIXELS 8
#define MOST_VECTORS 4
enum { PIXELS_OF_1 = 8, PIXELS_OF_2 = 8, PIXELS_OF_3 = 8, PIXELS_OF_4 = 6 };

typedef __m512i ints;
typedef __m512 reals;

V ints v_all(int value) { return _mm512_set1_epi32(value); }
V ints v_load(const void *from) { return _mm512_loadu_si512(from); }
V reals v_load_reals(const float *from) { return _mm512_loadu_ps(from); }
V void v_store_reals(float *to, reals values) { _mm512_storeu_ps(to, values); }
V ints v_load_bytes(const uint8_t *from) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)); }
V ints v_load_shorts(const uint8_t *from) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)from)); }
V void v_store_bytes(uint8_t *to, ints values) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(values)); }
V void v_store_shorts(uint8_t *to, ints values) { _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(values)); }
V ints v_add(ints a, ints b) { return _mm512_add_epi32(a, b); }
V ints v_larger(ints a, ints b) { return _mm512_max_epi32(a, b); }
V ints v_smaller(ints a, ints b) { return _mm512_min_epi32(a, b); }
V reals v_reals(ints values) { return _mm512_cvtepi32_ps(values); }
V reals v_times(reals a, reals b) { return _mm512_mul_ps(a, b); }
V ints v_nearest(reals values) { return _mm512_cvtps_epi32(values); }
V reals v_clip(reals values, float low, float high) {
    return _mm512_min_ps(_mm512_max_ps(values, _mm512_set1_ps(low)), _mm512_set1_ps(high));
}
// What is too large for a byte becomes the largest; only what is too small for one is left to be kept within limits.
V void v_store_nearest_bytes(uint8_t *to, reals values, int low, int high, int zero) {
    (void)high;
    ints whole = _mm512_max_epi32(v_nearest(values), v_all(low));
    if (zero != 0)
        whole = v_add(whole, v_all(zero));
    _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(whole));
}
// Four vectors of bytes, or two of shorts: packed together, which keeps them within what a byte or a short holds.
V ints v_pack_four(const reals values[4], int low, int zero) {
    ints bytes;
    const ints first = _mm512_packs_epi32(v_nearest(values[0]), v_nearest(values[1]));
    const ints second = _mm512_packs_epi32(v_nearest(values[2]), v_nearest(values[3]));
    if (zero == 0) {
        bytes = _mm512_packus_epi16(first, second);
    } else {
        bytes = _mm512_max_epi8(_mm512_packs_epi16(first, second), _mm512_set1_epi8((char)low));
        bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8((char)zero));
    }
    const ints order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    return _mm512_permutexvar_epi32(order, bytes);
}
V ints v_pack_two(const reals values[2], int low, int high) {
    ints shorts = _mm512_packs_epi32(v_nearest(values[0]), v_nearest(values[1]));
    shorts = _mm512_min_epi16(_mm512_max_epi16(shorts, _mm512_set1_epi16((short)low)), _mm512_set1_epi16((short)high));
    const ints order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    return _mm512_permutexvar_epi64(order, shorts);
}
V ints v_pack_two_positive(const reals values[2], int high) {
    const ints shorts = _mm512_packus_epi32(v_nearest(values[0]), v_nearest(values[1]));
    const ints order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    return _mm512_permutexvar_epi64(order, _mm512_min_epu16(shorts, _mm512_set1_epi16((short)high)));
}
V void v_store(uint8_t *to, ints values) { _mm512_storeu_si512(to, values); }
V void v_store_half(uint8_t *to, ints values, const int which) {
    _mm256_storeu_si256((__m256i *)to, which ? _mm512_extracti64x4_epi64(values, 1) : _mm512_castsi512_si256(values));
}
V void v_store_quarter(uint8_t *to, ints values, const int which) {
    _mm_storeu_si128((__m128i *)to, which == 0   ? _mm512_castsi512_si128(values)
                                    : which == 1 ? _mm512_extracti32x4_epi32(values, 1)
                                    : which == 2 ? _mm512_extracti32x4_epi32(values, 2)
                                                 : _mm512_extracti32x4_epi32(values, 3));
}
// Up to 64 bytes.
V void v_store_first(uint8_t *to, ints values, size_t count) {
    _mm512_mask_storeu_epi8(to, count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1, values);
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
    const ints sum = _mm512_adds_epi16(a, b);
    return _mm512_min_epi16(_mm512_max_epi16(sum, _mm512_set1_epi16((short)low)), _mm512_set1_epi16((short)high));
}
V ints v_sum_positive(ints a, ints b) { return _mm512_adds_epu8(a, b); }
V ints v_sum_signed(ints a, ints b, int low) {
    const ints middle = _mm512_set1_epi8(-128);
    const ints sum = _mm512_adds_epi8(_mm512_xor_si512(a, middle), _mm512_xor_si512(b, middle));
    return _mm512_xor_si512(_mm512_max_epi8(sum, _mm512_set1_epi8((char)low)), middle);
}
// The lower of each pair of shorts becomes the upper one, or the other way round; the other is 0.
V ints v_up(ints pairs) { return _mm512_slli_epi32(pairs, 16); }
V ints v_down(ints pairs) { return _mm512_srli_epi32(pairs, 16); }
V ints v_either(ints a, ints b) { return _mm512_or_si512(a, b); }
V ints v_four_bytes(const uint8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm512_set1_epi32(four);
}
V ints v_dot(ints sum, ints a, ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
V ints v_dot_bytes(ints sum, ints a, ints b) { return _mm512_dpbusd_epi32(sum, a, b); }
V ints v_singles(const uint8_t *from) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)); }
V ints v_byte_singles(const uint8_t *from) { return v_load_bytes(from); }
V ints v_byte_pairs(const uint8_t *first, const uint8_t *second) {
    const __m128i a = _mm_loadu_si128((const __m128i *)first), b = _mm_loadu_si128((const __m128i *)second);
    const __m256i low = _mm256_castsi128_si256(_mm_unpacklo_epi8(a, b));
    return _mm512_cvtepu8_epi16(_mm256_inserti128_si256(low, _mm_unpackhi_epi8(a, b), 1));
}
V ints v_pairs(const uint8_t *first, const uint8_t *second) {
    const ints order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4,
                                        35, 3, 34, 2, 33, 1, 32, 0);
    const ints one = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)first));
    const ints two = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)second));
    return _mm512_permutex2var_epi16(one, order, two);
}

#include "rows.h"
#endif
