// Rows of layers by AVX2, which multiplies integers of 16 bits in pairs; bytes are kept as such.
#include "network.h"

#if P3M_X86
#include <immintrin.h>

#define FN FOR_AVX2
#define V static inline __attribute__((always_inline)) FN
#define ROWS p3m_rows_avx2
#define HAS_PACKS 0
enum { LANES = 8, HAS_BYTES = 0 };
#define MOST_PIXELS 8
#define MOST_VECTORS 2
enum { PIXELS_OF_1 = 8, PIXELS_OF_2 = 5 };

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
V ints v_four_bytes(const uint8_t *from) {
    int32_t four;
    memcpy(&four, from, 4);
    return _mm256_set1_epi32(four);
}
V ints v_dot(ints sum, ints a, ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
V ints v_singles(const uint8_t *from) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)); }
V ints v_pairs(const uint8_t *first, const uint8_t *second) {
    const __m128i a = _mm_loadu_si128((const __m128i *)first), b = _mm_loadu_si128((const __m128i *)second);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
}

#include "rows.h"
#endif
