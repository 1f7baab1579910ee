// What the library was made from, and what the processor can do.
#include "processor.h"

#if P3M_DOTPROD && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#ifndef P3M_SOURCES
#define P3M_SOURCES "unknown"
#endif

P3M_API const char *p3m_sources(void) { return P3M_SOURCES; }

// Names of the levels, in their order: which kind of processor this is made for. What Python is told of the machine may be
// another one, where that emulates.
P3M_API const char *p3m_level_names(void) {
#if P3M_X86
    return "generic avx2 avxvnni vnni";
#elif P3M_ARM
    return "generic neon dotprod";
#else
    return "generic";
#endif
}

int p3m_has_avx512(void) {
#if P3M_X86
    // Virtual machines take their time to answer: asked once. 0 is not known yet.
    static _Atomic int known;
    if (known == 0)
        known = features_of_processor().avx512 ? 2 : 1;
    return known == 2;
#else
    return 0;
#endif
}

P3M_API int p3m_best_level(void) {
#if P3M_X86
    const struct features found = features_of_processor();
    return !found.avx2 ? GENERIC : found.avx512 ? VNNI : P3M_AVXVNNI && found.avxvnni ? AVXVNNI : AVX2;
#elif P3M_DOTPROD && defined(__APPLE__)
    // All Macs with such processors have them.
    return DOTPROD;
#elif P3M_DOTPROD && defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? DOTPROD : NEON;
#elif P3M_ARM
    return NEON;
#else
    return GENERIC;
#endif
}
