// The AMX kernel of this kind of weights, its tiles in memory (gemm/cpu/tiles_amx.h).
#define LIQUIDGEMM_EMULATE_TILES
#define kInt8Amx kInt8EmulatedTiles
#include "gemm/cpu/int8_amx.cc"
