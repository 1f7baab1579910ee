// What all kernels share. Every exported function
// - takes the instruction set (`level`) first, and gives the same bytes on each;
// - works on memory of its caller alone: no state, no threads, nothing kept between calls;
// - relies on sizes that its Python side has checked.
#ifndef P3M_NATIVE_H
#define P3M_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _WIN32
#define P3M_API __declspec(dllexport)
#else
#define P3M_API __attribute__((visibility("default")))
#endif

// Instruction sets, each of which holds those before it; 64-bit ARM has its own.
enum { GENERIC = 0, AVX2 = 1, AVXVNNI = 2, VNNI = 3 };
enum { NEON = 1, DOTPROD = 2 };

// For Windows GCC takes the stack to be aligned to vectors of 256 bits, which it is not: what it keeps there crashes (its bug
// 54412). Such a library has no vectors.
#if defined(__x86_64__) && defined(__GNUC__) && (defined(__clang__) || !(defined(_WIN32) || defined(__CYGWIN__)))
#define P3M_X86 1
#define FOR_AVX2 __attribute__((target("avx2,fma,bmi2")))
#define FOR_VNNI __attribute__((target("avx2,fma,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")))
// Dot products in 256 bits: processors without AVX-512 have them in another encoding, which compilers of before 2021 lack,
// and assemblers that are older than their compiler.
#if __has_include(<avxvnniintrin.h>) && !defined(P3M_WITHOUT_AVXVNNI)
#define P3M_AVXVNNI 1
#define FOR_AVXVNNI __attribute__((target("avx2,fma,bmi2,avxvnni")))
#else
#define P3M_AVXVNNI 0
#endif
#else
#define P3M_X86 0
#define P3M_AVXVNNI 0
#endif

// Whether the processor has AVX-512 with dot products.
int p3m_has_avx512(void);

// Vectors that every processor has, of which compilers make kernels anyway; dot products of bytes are for younger ones,
// and known to younger compilers.
#if defined(__aarch64__) && defined(__GNUC__)
#define P3M_ARM 1
#if defined(__ARM_FEATURE_DOTPROD)
#define FOR_DOTPROD
#define P3M_DOTPROD 1
#elif defined(__clang__) ? __clang_major__ >= 17 : __GNUC__ >= 9
#define FOR_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define P3M_DOTPROD 1
#else
#define P3M_DOTPROD 0
#endif
#else
#define P3M_ARM 0
#define P3M_DOTPROD 0
#endif

// The body of a kernel that is left to the compiler: written once, compiled for each instruction set.
#define BODY static inline __attribute__((always_inline))

// Defines NAME(int level, parameters), which calls BODY function NAME_body for the level.
// KERNEL(NAME, (parameters with types), (arguments))
#if P3M_X86
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                                                                             \
    KERNEL_BELOW_VNNI(NAME, PARAMETERS, ARGUMENTS)                                                                      \
    FOR_VNNI static void NAME##_vnni PARAMETERS { NAME##_body ARGUMENTS; }
// Where NAME_vnni is written by hand.
#define KERNEL_BELOW_VNNI(NAME, PARAMETERS, ARGUMENTS)                                                                  \
    KERNEL_BELOW_AVX2(NAME, PARAMETERS, ARGUMENTS)                                                                      \
    FOR_AVX2 static void NAME##_avx2 PARAMETERS { NAME##_body ARGUMENTS; }
// Where NAME_avx2 is too.
#define KERNEL_BELOW_AVX2(NAME, PARAMETERS, ARGUMENTS)                                                                  \
    static void NAME##_generic PARAMETERS { NAME##_body ARGUMENTS; }
#define CALL(NAME, LEVEL, ARGUMENTS)                                                                                    \
    do {                                                                                                                \
        if ((LEVEL) >= VNNI)                                                                                            \
            NAME##_vnni ARGUMENTS;                                                                                      \
        else if ((LEVEL) >= AVX2)                                                                                       \
            NAME##_avx2 ARGUMENTS;                                                                                      \
        else                                                                                                            \
            NAME##_generic ARGUMENTS;                                                                                   \
    } while (0)
#else
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                                                                             \
    static void NAME##_generic PARAMETERS { NAME##_body ARGUMENTS; }
#define KERNEL_BELOW_VNNI KERNEL
#define KERNEL_BELOW_AVX2 KERNEL
#define CALL(NAME, LEVEL, ARGUMENTS)                                                                                    \
    do {                                                                                                                \
        (void)(LEVEL);                                                                                                  \
        NAME##_generic ARGUMENTS;                                                                                       \
    } while (0)
#endif

#endif
