// The process that writes DDR: output tiles, one channel block after another.
#ifndef HLSGEN_STORE_H
#define HLSGEN_STORE_H

#include "program.h"
#include "walk.h"
#ifdef DYNAMIC
#include "dynamic.h"
#endif

inline void store_output(int index, hls::stream<beat_t> &in, beat_t *memory) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
    walk_t w = walk_begin(op);
#ifdef DYNAMIC
    int least_order = 0, most_order = 0;  // of the elements and zero
#endif
#ifdef ATTENTION
    int head_at = op.out;  // scores: the head's first block, which holds its rows' largest
#endif
#ifdef SPREAD
    int share = 0, share_y = 0, share_x = 0, share_row = op.out;  // block of a share, its row and column, their first beat
#endif
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int rows = tile_rows(w, op), cols = tile_cols(w, op), blocks = tile_blocks(w, op);
#ifdef SPREAD
        // Channels as pixels, a pixel a burst: the blocks of a tile's pixels are those of share 0, then of share 1, ...
        if (op.spread > 1) {
            if (w.m == 0) {
                share = share_y = share_x = 0;
                share_row = op.out;
            }
            for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                int row_at = share_row + times(share, op.plane) + share_x * STORED_BEATS + w.row_at + w.col_at;
                for (int r = 0; r < rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
                    int at = row_at;
                    for (int c = 0; c < cols; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
                        for (int i = 0; i < STORED_BEATS; i++) {
#pragma HLS PIPELINE II=1
#ifdef DYNAMIC
                            memory[at + i] = kept(in.read(), least_order, most_order);
#else
                            memory[at + i] = in.read();
#endif
                        }
                        at += op.spread_pixel;
                    }
                    row_at += op.row;
                }
                share++;
                if (share == op.spread_blocks) {
                    share = 0;
                    share_x++;
                }
                if (share_x == op.spread) {
                    share_x = 0;
                    share_row += op.spread_row;
                }
            }
            walk_next(w, op);
            continue;
        }
#endif
        const bool whole = cols == op.out_w;
        const int bursts = whole ? 1 : rows;
        const int length = (whole ? times(rows, cols) : cols) * STORED_BEATS;
#ifdef ATTENTION
        // Scores have a block a head more than the walk counts.
        const bool told = op.kind == OP_SCORES && w.group == op.group_tiles - 1;
        const int skipped = op.kind == OP_SCORES ? head_at - op.out + op.plane : 0;
        int block_at = op.out + skipped + w.row_at + w.col_at;
        block_at += op.kind == OP_SCORES ? times(w.group, op.tile_planes) : w.block_at;
        for (int b = 0; b < (told ? blocks + 1 : blocks); b++) {
            if (b == blocks) block_at = head_at + w.row_at + w.col_at;
#else
        int block_at = op.out + w.block_at + w.row_at + w.col_at;
        for (int b = 0; b < blocks; b++) {
#endif
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
#ifdef DYNAMIC
            int at = block_at;
            for (int r = 0; r < bursts; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
                for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
                    memory[at + i] = kept(in.read(), least_order, most_order);
                }
                at += op.row;
            }
#else
            write_rows(memory, block_at, bursts, length, op.row, in);
#endif
            block_at += op.plane;
        }
#ifdef ATTENTION
        if (told) head_at = w.m == op.tiles_m - 1 ? op.out : head_at + op.head_planes;
#endif
        walk_next(w, op);
    }
#ifdef DYNAMIC
    beat_t extent;
    for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
        put_word(extent, j, j == 0 ? bits_of(at_order(least_order)) : j == 1 ? bits_of(at_order(most_order)) : 0);
    }
    memory[op.extent] = extent;
#endif
}

#endif
