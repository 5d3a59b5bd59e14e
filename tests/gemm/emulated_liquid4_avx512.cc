// The AMX kernel of this kind of weights, its tiles in memory (gemm/cpu/tiles_amx.h).
#define LIQUIDGEMM_EMULATE_TILES
#define kLiquid4Amx kLiquid4EmulatedTiles
#include "gemm/cpu/liquid4_amx.cc"
