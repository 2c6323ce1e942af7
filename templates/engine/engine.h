// The accelerator's top function.
#ifndef HLSGEN_ENGINE_H
#define HLSGEN_ENGINE_H

#include "types.h"

// Run ops [first, first + count) of the program. feature_maps, residuals and results are the same memory, read and
// written through ports of their own; parameters holds tables, channel parameters and weights. identity receives IDENTITY
// (config.h), also where count is 0: a driver asks which build the hardware is before it hands it any memory.
void hlsgen_engine(const beat_t *feature_maps, const beat_t *residuals, const beat_t *parameters, beat_t *results,
                   int first, int count, unsigned &identity);

#endif
