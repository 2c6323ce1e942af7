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
#ifdef TELLS
    int head_at = op.out;  // scores: the head's first block, which holds its rows' largest
#endif
#ifdef SPREAD
    // Channels as pixels: the blocks of neighbouring pixels of a row come one after another, and wait for the last of them.
    static beat_t held[HELD_BLOCKS][HELD_BEATS];
    int part = 0, block = 0, block_at_row = op.out, row_begin = op.out;  // pixel of the row, block of it, their first beats
#endif
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int rows = tile_rows(w, op), cols = tile_cols(w, op), blocks = tile_blocks(w, op);
#ifdef SPREAD
        if (op.spread > 1) {
            const int beats = times(rows, cols) * STORED_BEATS;
            if (w.m == 0) {
                part = block = 0;
                block_at_row = row_begin = op.out;
            }
            for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                const bool last = part == op.spread - 1;
                for (int i = 0; i < (last ? 0 : beats); i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=HELD_BEATS
#ifdef DYNAMIC
                    held[part][i] = kept(in.read(), least_order, most_order);
#else
                    held[part][i] = in.read();
#endif
                }
                int at = block_at_row + w.row_at + w.col_at, from = 0;
                for (int r = 0; r < (last ? rows : 0); r++) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_ROWS
                    int of = 0, beat = 0;
                    for (int i = 0; i < times(op.spread, cols) * STORED_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
                        if (of == op.spread - 1) {
#ifdef DYNAMIC
                            memory[at + i] = kept(in.read(), least_order, most_order);
#else
                            memory[at + i] = in.read();
#endif
                        } else {
                            memory[at + i] = held[of][from + beat];
                        }
                        beat++;
                        if (beat == STORED_BEATS) {
                            beat = 0;
                            of++;
                        }
                        if (of == op.spread) {
                            of = 0;
                            from += STORED_BEATS;
                        }
                    }
                    at += op.row;
                }
                part = last ? 0 : part + 1;
                if (last) {
                    block++;
                    block_at_row += op.plane;
                }
                if (block == op.spread_blocks) {
                    block = 0;
                    row_begin += op.spread_row;
                    block_at_row = row_begin;
                }
            }
            walk_next(w, op);
            continue;
        }
#endif
        const bool whole = cols == op.out_w;
        const int bursts = whole ? 1 : rows;
        const int length = (whole ? times(rows, cols) : cols) * STORED_BEATS;
#ifdef TELLS
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
#ifdef TELLS
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
