// Rows of layers by dot products of integers in 256 bits, as processors without AVX-512 have them.
#include "network.h"

#if P3M_AVXVNNI
#define FN FOR_AVXVNNI
#define ROWS p3m_rows_avxvnni
enum { HAS_BYTES = 1 };
#define WITH_DOTS                                                                                                       \
    V ints v_dot(ints sum, ints a, ints b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }                               \
    V ints v_dot_bytes(ints sum, ints a, ints b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }

#include "rows_256.h"
#endif
