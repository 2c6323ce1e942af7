// The process that writes DDR: output tiles, one channel block after another.
#ifndef HLSGEN_STORE_H
#define HLSGEN_STORE_H

#include "program.h"
#include "walk.h"

inline void store_output(int index, hls::stream<beat_t> &in, beat_t *memory) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
    walk_t w = walk_begin(op);
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int rows = tile_rows(w, op), cols = tile_cols(w, op), blocks = tile_blocks(w, op);
        const bool whole = cols == op.out_w;
        const int bursts = whole ? 1 : rows;
        const int length = (whole ? times(rows, cols) : cols) * BLOCK_BEATS;
        int block_at = op.out + w.block_at + w.row_at + w.col_at;
        for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            int at = block_at;
            for (int r = 0; r < bursts; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
                for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
                    memory[at + i] = in.read();
                }
                at += op.row;
            }
            block_at += op.plane;
        }
        walk_next(w, op);
    }
}

#endif
