// Attention (docs/arithmetic-attention.md): a feature map in the place of weights, and softmax around the MAC array.
//
// Scores are a convolution of the queries whose weights are the keys, transposed as they are read. The epilogue keeps
// each row's largest score and the store puts these, as one more channel block, in front of the head's. The attention is
// a convolution of weights exp(score - largest), made as the patch is filled, with the values as its weights; the rows'
// sums go ahead to the epilogue, which divides by them. No map of softmax is stored.
#ifndef HLSGEN_ATTENTION_H
#define HLSGEN_ATTENTION_H

#include "program.h"
#include "walk.h"

// Blocks of TM keys by TM channels are turned in BEAT banks, as many at once as come in one burst. Element (key, channel) lies
// in bank (key + channel) % BEAT, so that both BEAT channels of a key and BEAT keys of a channel are in different banks.
const int TURNED = 8;  // blocks
const int BLOCK_DEPTH = TM * BLOCK_BEATS, BANK_DEPTH = TURNED * BLOCK_DEPTH;

// BEAT channels of a key, from channel group * BEAT on; beat: key * BLOCK_BEATS + group, counted over the blocks.
inline void turn_put(data_t bank[BEAT][BANK_DEPTH], int beat, const beat_t &b) {
#pragma HLS INLINE
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        bank[i][beat] = b.v[(i + TM - beat / BLOCK_BEATS % TM) % BEAT];
    }
}

// BEAT keys of a channel of a block, from key group * BEAT on; those from `keys` on read as 0.
inline beat_t turn_get(data_t bank[BEAT][BANK_DEPTH], int block, int channel, int group, int keys) {
#pragma HLS INLINE
    data_t found[BEAT];
#pragma HLS ARRAY_PARTITION variable=found complete
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        const int key = group * BEAT + (i + TM - channel) % BEAT;
        found[i] = bank[i][block * BLOCK_DEPTH + key * BLOCK_BEATS + channel / BEAT];
    }
    beat_t b;
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        b.v[i] = group * BEAT + i < keys ? int(found[(i + channel) % BEAT]) : 0;
    }
    return b;
}

// Where the next token lies within its window: its row's beats from the window's first, its column.
struct place_t {
    int row_at, column;
};

#ifndef DYNAMIC
// A window's next token.
inline void next_token(place_t &place, const op_t &op) {
#pragma HLS INLINE
    place.column++;
    if (place.column == op.window_row) {
        place.column = 0;
        place.row_at += op.operand_line;
    }
}

// A window's next `tokens` tokens of a block of channels, as they lie or to be turned: a burst where all of them are neighbours,
// else requests of a beat each, which overlap.
inline void load_tokens(const op_t &op, const beat_t *memory, int at, int tokens, place_t &place,
                        data_t bank[BEAT][BANK_DEPTH], hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const int beats = tokens * BLOCK_BEATS;
    if (op.window_row >= op.keys) {
        const int from = at + place.row_at + place.column * BLOCK_BEATS;
        for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
            const beat_t b = memory[from + n];
            if (op.kind == OP_SCORES) {
                turn_put(bank, n, b);
            } else {
                out.write(b);
            }
        }
        place.column += tokens;
        return;
    }
    int group = 0;
    for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
        const beat_t b = memory[at + place.row_at + place.column * BLOCK_BEATS + group];
        if (op.kind == OP_SCORES) {
            turn_put(bank, n, b);
        } else {
            out.write(b);
        }
        group++;
        if (group == BLOCK_BEATS) {
            group = 0;
            next_token(place, op);
        }
    }
}

// The keys of a tile, TURNED blocks at a time: [input block][block][half][TN][TM], TN over channels and TM over keys.
inline void load_keys(const op_t &op, const beat_t *memory, int window_at, const walk_t &w, place_t &tile_begins,
                      data_t bank[BEAT][BANK_DEPTH], hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const int blocks = tile_blocks(w, op);
    const int left = op.keys - times(w.group, op.tile_m) * TM;  // keys from the tile's first on
    place_t place = tile_begins;
    for (int c = 0; c < op.in_blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
        const int rows = c == op.in_blocks - 1 ? op.halves * TN : TM;
        const int used = c == op.in_blocks - 1 ? op.last_lanes : TM;
        const int at = window_at + times(w.first_block + c, op.operand_plane);
        const met_t met = met_by(op, w, c, blocks);
        const int begin = met.step > 1 ? 0 : met.first;
        const int end = met.step > 1 ? blocks : met.first + met.count;
        place = tile_begins;
        place.column += met.step > 1 ? 0 : met.first * TM;  // only where all keys are neighbours
        int meets = met.first;  // the next block to be met
        for (int first = begin; first < end; first += TURNED) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            const int some = least(TURNED, end - first);
            load_tokens(op, memory, at, least(some * TM, left - first * TM), place, bank, out);
            int block = meets - first, i = 0, turned = 0;
            for (int b = meets; b < first + some; b += met.step) turned++;
            meets += times(turned, met.step);
            for (int n = 0; n < times(turned, rows * BLOCK_BEATS); n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
                const int channel = i / BLOCK_BEATS;
                const int keys = least(TM, left - (first + block) * TM);
                out.write(turn_get(bank, block, channel, i % BLOCK_BEATS, channel < used ? keys : 0));
                i++;
                if (i == rows * BLOCK_BEATS) {
                    i = 0;
                    block += met.step;
                }
            }
        }
    }
    tile_begins = place;
}

// The values of a tile: [input block][block][half][TN][TM], TN over keys and TM over channels, as they lie. Input block 0 holds
// the rows' largest scores: nothing is multiplied by it.
inline void load_values(const op_t &op, const beat_t *memory, int window_at, const walk_t &w, data_t bank[BEAT][BANK_DEPTH],
                        hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const int blocks = tile_blocks(w, op);
    place_t block_begins = {0, 0};
    for (int c = 1; c < op.in_blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
        const int rows = c == op.in_blocks - 1 ? op.halves * TN : TM;
        const int tokens = least(rows, op.keys - (c - 1) * TM);
        place_t place = block_begins;
        for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            place = block_begins;
            load_tokens(op, memory, window_at + times(w.block + b, op.operand_plane), tokens, place, bank, out);
            const beat_t nothing = {};
            for (int i = tokens * BLOCK_BEATS; i < rows * BLOCK_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TURN_BEATS
                out.write(nothing);
            }
        }
        block_begins = place;
    }
}

// The second feature map in the order in which the MAC array takes weights. A tile meets the tokens of the window in which it
// lies.
inline void load_operand(const op_t &op, const beat_t *memory, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    static data_t bank[BEAT][BANK_DEPTH];
#pragma HLS ARRAY_PARTITION variable=bank dim=1 complete
    walk_t w = walk_begin(op);
    int window_y = 0, window_x = 0;  // its first row and column
    place_t tile_begins = {0, 0};    // of scores: the tile's first key
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        if (w.out_x == 0) window_x = 0;
        if (w.out_x >= window_x + op.window_w) window_x += op.window_w;
        if (w.out_y >= window_y + op.window_h) window_y += op.window_h;
        const int window_at = op.operand + times(window_y, op.operand_line) + window_x * BLOCK_BEATS;
        if (w.group == 0) tile_begins.row_at = tile_begins.column = 0;
        if (op.kind == OP_SCORES) {
            load_keys(op, memory, window_at, w, tile_begins, bank, out);
        } else {
            load_values(op, memory, window_at, w, bank, out);
        }
        walk_next(w, op);
    }
}

// floor(log2(x)), x > 0.
inline int floor_log2(row_sum_t x) {
#pragma HLS INLINE
    int n = 0;
    for (int i = 1; i < ROW_SUM_BITS; i++) {
#pragma HLS UNROLL
        if ((x >> i) & 1) n = i;
    }
    return n;
}

// What divides a row of an attention by its sum: (acc + bias) * multiplier / 2^shift.
inline channel_t row_constants(row_sum_t sum, const op_t &op) {
#pragma HLS INLINE
    const int n = floor_log2(sum);
    channel_t c;
    c.bias = -int(sum) * op.operand_zero;
    c.multiplier = int((quotient_t(op.multiplier) << n) / quotient_t(sum));
    c.shift = op.scaling_shift + n;
    return c;
}

#endif

#endif
