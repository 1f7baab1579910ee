// Rows of layers by the vectors that every 64-bit ARM has; bytes are taken as shorts.
#include "network.h"

#if P3M_ARM
#define FN
#define ROWS p3m_rows_neon
#define WITH_DOTS 0
#include "rows_arm.h"
#endif
