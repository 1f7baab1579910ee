// As rows_avxvnni.c, with the other encoding of the same instructions, which processors with AVX-512 have: there the
// one is not known, and so tested all the same.
#include "network.h"

#if P3M_X86
#define FN FOR_VNNI
#define ROWS p3m_rows_avx512vl
enum { HAS_BYTES = 1 };
#define WITH_DOTS                                                                                                       \
    V ints v_dot(ints sum, ints a, ints b) { return _mm256_dpwssd_epi32(sum, a, b); }                                   \
    V ints v_dot_bytes(ints sum, ints a, ints b) { return _mm256_dpbusd_epi32(sum, a, b); }

#include "rows_256.h"
#endif
