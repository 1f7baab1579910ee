// What an x86-64 processor has and its system saves. __builtin_cpu_supports is not asked: it says no to everything where
// the compiler's run-time library is ziglang's.
#ifndef P3M_PROCESSOR_H
#define P3M_PROCESSOR_H

#include "native.h"

#if P3M_X86
#include <cpuid.h>

struct features {
    int avx2, avx512, avxvnni; // AVX2 with FMA and BMI2; AVX-512 as in FOR_VNNI; dot products in 256 bits without it.
};

static inline int has_all(unsigned found, const int *bits, int count) {
    for (int i = 0; i < count; i++)
        if (!(found >> bits[i] & 1))
            return 0;
    return 1;
}

static inline struct features features_of_processor(void) {
    // FMA, OSXSAVE, AVX; BMI1, AVX2, BMI2; AVX-512 F, DQ, CD, BW, VL; VNNI; and LZCNT, which is another instruction where
    // it is not known: it gives a wrong number there, and no fault.
    static const int first[] = {12, 27, 28}, wide[] = {3, 5, 8}, wider[] = {16, 17, 28, 30, 31}, products = 11, zeros = 5;
    struct features found = {0, 0, 0};
    unsigned a, b, c, d, saved, upper;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has_all(c, first, 3))
        return found;
    // Registers that the system keeps for each thread: those of SSE and AVX, and of AVX-512 the three kinds.
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has_all(b, wide, 3))
        return found;
    const unsigned seven = b, more = c;
    if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !has_all(c, &zeros, 1))
        return found;
    found.avx2 = 1;
#ifdef __APPLE__
    // It keeps them as soon as they are used, and says so only then.
    saved |= 0xE0;
#endif
    found.avx512 = (saved & 0xE0) == 0xE0 && has_all(seven, wider, 5) && has_all(more, &products, 1);
    found.avxvnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
    return found;
}
#endif

#endif
