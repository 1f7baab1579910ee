// What the library was made from, and what the processor can do.
#include "native.h"

#if P3M_X86
#include <cpuid.h>
#endif

#ifndef P3M_SOURCES
#define P3M_SOURCES "unknown"
#endif

P3M_API const char *p3m_sources(void) { return P3M_SOURCES; }

int p3m_has_avx512(void) {
#if P3M_X86
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

P3M_API int p3m_best_level(void) {
#if P3M_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
        return GENERIC;
    if (p3m_has_avx512())
        return VNNI;
#if P3M_AVXVNNI
    // Compilers' names for it are younger than its instructions: AVX-VNNI is bit 4 of EAX of leaf 7.1.
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4))
        return AVXVNNI;
#endif
    return AVX2;
#else
    return GENERIC;
#endif
}
