// What the library was made from, and what the processor can do.
#include "processor.h"

#ifndef P3M_SOURCES
#define P3M_SOURCES "unknown"
#endif

P3M_API const char *p3m_sources(void) { return P3M_SOURCES; }

P3M_API int p3m_best_level(void) {
#if P3M_X86
    const struct features found = features_of_processor();
    return !found.avx2 ? GENERIC : found.avx512 ? VNNI : AVX2;
#else
    return GENERIC;
#endif
}
