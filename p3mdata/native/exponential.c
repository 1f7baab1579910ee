// e to the power of numbers, by the same operations on every machine. numpy's and the C library's differ in the last bit.
#include "native.h"

// Added to a number and taken away again, it leaves the nearest integer.
#define SINGLE_SHIFT 12582912.0f
#define DOUBLE_SHIFT 6755399441055744.0

static const float NUMERATOR[] = {5.082762527590693718096e-04f, 6.757896990527504603057e-03f, 5.114512081637298353406e-02f,
                                  2.473615434895520810817e-01f, 7.257664613233124478488e-01f, 9.999999999980870924916e-01f};
static const float DENOMINATOR[] = {2.159509375685829852307e-02f, -2.742335390411667452936e-01f, 1.0f};
static const double FACTORIALS[] = {6227020800.0, 479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0,
                                    720.0,        120.0,       24.0,       6.0,       2.0,      1.0,     1.0};

// a * b + c, rounded once: a double holds the product.
BODY float fused(float a, float b, float c) { return (float)((double)a * (double)b + (double)c); }

BODY void singles_body(const float *restrict x, ptrdiff_t count, float *restrict out) {
    for (ptrdiff_t i = 0; i < count; i++) {
        const float whole = (x[i] * 1.442695040f + SINGLE_SHIFT) - SINGLE_SHIFT;
        const float rest = fused(whole, -1.42860677e-6f, fused(whole, -6.93145752e-1f, x[i]));
        float upper = NUMERATOR[0], lower = DENOMINATOR[0];
        for (int j = 1; j < 6; j++)
            upper = fused(upper, rest, NUMERATOR[j]);
        for (int j = 1; j < 3; j++)
            lower = fused(lower, rest, DENOMINATOR[j]);
        const int32_t bits = ((int32_t)whole + 127) * (1 << 23);
        float power;
        memcpy(&power, &bits, sizeof power);
        out[i] = upper / lower * power;
    }
}

BODY void doubles_body(const double *restrict x, ptrdiff_t count, double *restrict out) {
    for (ptrdiff_t i = 0; i < count; i++) {
        const double whole = (x[i] * 1.4426950408889634 + DOUBLE_SHIFT) - DOUBLE_SHIFT;
        const double rest = (x[i] - whole * 0.6931471803691238) - whole * 1.9082149292705877e-10;
        double sum = 1 / FACTORIALS[0];
        for (int j = 1; j < 14; j++)
            sum = sum * rest + 1 / FACTORIALS[j];
        const int64_t bits = ((int64_t)whole + 1023) * ((int64_t)1 << 52);
        double power;
        memcpy(&power, &bits, sizeof power);
        out[i] = sum * power;
    }
}

KERNEL(singles, (const float *x, ptrdiff_t count, float *out), (x, count, out))
KERNEL(doubles, (const double *x, ptrdiff_t count, double *out), (x, count, out))

// Of `count` numbers of -87 to 87.
P3M_API void p3m_exponentials(int level, const float *x, ptrdiff_t count, float *out) {
    CALL(singles, level, (x, count, out));
}

P3M_API void p3m_exponentials_of_doubles(int level, const double *x, ptrdiff_t count, double *out) {
    CALL(doubles, level, (x, count, out));
}
