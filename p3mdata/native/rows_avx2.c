// Rows of layers by AVX2, which multiplies integers of 16 bits in pairs; bytes are kept as such.
#include "network.h"

#if P3M_X86
#define FN FOR_AVX2
#define ROWS p3m_rows_avx2
enum { HAS_BYTES = 0 };
// Of bytes there are none to multiply: vpmaddubsw, which could, keeps sums of two products below 2^15, and those of
// full bytes and weights reach twice as much.
#define WITH_DOTS                                                                                                       \
    V ints v_dot(ints sum, ints a, ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }                   \
    V ints v_dot_bytes(ints sum, ints a, ints b) { return v_dot(sum, a, b); }

#include "rows_256.h"
#endif
