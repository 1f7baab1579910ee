// Rows of layers by ARM's dot products of bytes, which processors have since about 2018, Apple's all.
#include "network.h"

#if P3M_DOTPROD
#define FN FOR_DOTPROD
#define ROWS p3m_rows_dotprod
#define WITH_DOTS 1
#include "rows_arm.h"
#endif
