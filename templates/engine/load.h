// Processes that read DDR: the input patches, the residual operand, the weights.
#ifndef HLSGEN_LOAD_H
#define HLSGEN_LOAD_H

#include "program.h"
#include "walk.h"
#ifdef DYNAMIC
#include "dynamic_load.h"
#elif defined(ATTENTION)
#include "attention.h"
#endif

#ifndef DYNAMIC
// Input patches, one channel block after another; only what lies on the map (the MAC process inserts the padding).
// A tile as wide as the map is one burst; a narrower one is a run a row (read_rows).
inline void load_input(int index, const beat_t *memory, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
    walk_t w = walk_begin(op);
#ifdef SOFTMAX
    // Queries come anew for every chunk of keys; what meets none of them does not.
    chunk_t k = chunk_at(op, 0);
    const bool attends = op.kind == OP_ATTEND;
    const int visits = attends ? times(op.chunks, op.tiles) : op.tiles;
#else
    const int visits = op.tiles;
#endif
    for (int t = 0; t < visits; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const patch_t p = patch_of(w, op);
        int s = op.first_source, s_begin = 0;
        for (int c = 0; c < op.in_blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
#ifdef SOFTMAX
            if (attends && met_by(op, k, c).count == 0) continue;
#endif
            const int block = w.first_block + c;
            while (block >= SOURCES[s].end) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_SOURCES
                s_begin = SOURCES[s].end;
                s++;
            }
            const source_t src = SOURCES[s];
            const int column = p.x_begin >> src.upsample;
            const int columns = p.x_end > p.x_begin ? ((p.x_end - 1) >> src.upsample) + 1 - column : 0;
            const int rows = p.y_end - p.y_begin;
            const bool whole = columns == src.width && src.upsample == 0;
            const int bursts = whole ? least(rows, 1) : rows;
            const int length = (whole ? times(rows, columns) : columns) * BLOCK_BEATS;
            const int block_at = src.base + times(block - s_begin, src.plane) + column * BLOCK_BEATS;
            const int pitch = src.width * BLOCK_BEATS;
            const int at = block_at + times(p.y_begin >> src.upsample, pitch);
            read_rows(memory, at, bursts, length, pitch, p.y_begin, src.upsample, out);
        }
#ifdef SOFTMAX
        if (attends) {
            const int first = k.first + CHUNK_BLOCKS;
            const bool more = first < op.key_blocks;
            k = chunk_at(op, more ? first : 0);
            if (more) continue;
        }
#endif
        walk_next(w, op);
    }
}
#endif

// The residual operand in the order of the output.
inline void load_residual(int index, const beat_t *memory,
#ifdef ATTENTION
                          hls::stream<beat_t> &operand,
#endif
                          hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
#ifdef ATTENTION
    if (op.kind == OP_SCORES || op.kind == OP_ATTEND) load_operand(op, memory, operand);
#endif
    if (op.residual < 0) return;
    walk_t w = walk_begin(op);
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int rows = tile_rows(w, op), cols = tile_cols(w, op), blocks = tile_blocks(w, op);
        const bool whole = cols == op.out_w;
        const int bursts = whole ? 1 : rows;
        const int length = (whole ? times(rows, cols) : cols) * STORED_BEATS;
        int block_at = op.residual + w.block_at + w.row_at + w.col_at;
        for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            read_rows(memory, block_at, bursts, length, op.row, 0, 0, out);
            block_at += op.plane;
        }
        walk_next(w, op);
    }
}

// First the activation table and the channel parameters, for the epilogue; then the weights, once for every tile of
// pixels, in the order in which the MAC array takes them.
inline void load_weights(int index, const beat_t *memory, hls::stream<beat_t> &parameters, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
#ifdef SOFTMAX
    if (op.kind == OP_ATTEND) {
        for (int i = 0; i < EXPONENT_BEATS; i++) {
#pragma HLS PIPELINE II=1
            out.write(memory[op.weights + i]);
        }
    }
#endif
#ifdef MERGES
    const int factor_beats = op.kind == OP_ATTEND && op.chunks > 1 ? FACTORS * 4 / BEAT : 0;
    for (int i = 0; i < factor_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=FACTORS*4/BEAT
        parameters.write(memory[op.parameters + i]);
    }
#endif
#ifdef ATTENTION
    if (op.kind == OP_SCORES || op.kind == OP_ATTEND) return;
#endif
#ifdef DYNAMIC
    if (op.kind == OP_MAXIMUM) return;
#endif
    const int parameter_beats = (op.table ? TABLE_BEATS : 0) + op.channels * CHANNEL_BYTES / BEAT;
    for (int i = 0; i < parameter_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_PARAMETER_BEATS
        parameters.write(memory[op.parameters + i]);
    }
    if (op.kind != OP_CONVOLUTION) return;
    // The weights of an op are contiguous.
    for (int t = 0; t < op.repeats; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        for (int i = 0; i < op.weight_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_WEIGHT_BEATS
            out.write(memory[op.weights + i]);
        }
    }
}

#endif
