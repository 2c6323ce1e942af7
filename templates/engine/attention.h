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

// A block of TM keys by TM channels is turned in BEAT banks. Element (key, channel) lies in bank (key + channel) % BEAT, so
// that both BEAT channels of a key and BEAT keys of a channel are in different banks.
const int BANK_DEPTH = TM * BLOCK_BEATS;

// BEAT channels of a key, from channel group * BEAT on.
inline void turn_put(data_t bank[BEAT][BANK_DEPTH], int key, int group, const beat_t &b) {
#pragma HLS INLINE
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        bank[i][key * BLOCK_BEATS + group] = b.v[(i + TM - key) % BEAT];
    }
}

// BEAT keys of a channel, from key group * BEAT on; those from `keys` on read as 0.
inline beat_t turn_get(data_t bank[BEAT][BANK_DEPTH], int channel, int group, int keys) {
#pragma HLS INLINE
    data_t found[BEAT];
#pragma HLS ARRAY_PARTITION variable=found complete
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        const int key = group * BEAT + (i + TM - channel) % BEAT;
        found[i] = bank[i][key * BLOCK_BEATS + channel / BEAT];
    }
    beat_t b;
    for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
        b.v[i] = group * BEAT + i < keys ? int(found[(i + channel) % BEAT]) : 0;
    }
    return b;
}

// Where the next key lies within its window: its row's beats from the window's first, its column.
struct place_t {
    int row_at, column;
};

#ifndef DYNAMIC
// A window's next `keys` tokens, a burst a row: turned where they are keys of scores, else straight on.
inline void load_tokens(const op_t &op, const beat_t *memory, int at, int keys, place_t &place,
                        data_t bank[BEAT][BANK_DEPTH], hls::stream<beat_t> &out) {
#pragma HLS INLINE
    int done = 0;
    while (done < keys) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=TM
        const int run = least(keys - done, op.window_row - place.column);
        const int from = at + place.row_at + place.column * BLOCK_BEATS;
        for (int i = 0; i < run * BLOCK_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=TURN_BEATS
            const beat_t b = memory[from + i];
            if (op.kind == OP_SCORES) {
                turn_put(bank, done + i / BLOCK_BEATS, i % BLOCK_BEATS, b);
            } else {
                out.write(b);
            }
        }
        done += run;
        place.column += run;
        if (place.column == op.window_row) {
            place.column = 0;
            place.row_at += op.operand_line;
        }
    }
}

// The second feature map in the order in which the MAC array takes weights: for every tile and input block, block by
// block [half][TN][TM]. Of keys, TN runs over channels and TM over keys; of values, the other way round, as they lie.
// A tile lies in one window, and meets that window's tokens.
inline void load_operand(const op_t &op, const beat_t *memory, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    static data_t bank[BEAT][BANK_DEPTH];
#pragma HLS ARRAY_PARTITION variable=bank dim=1 complete
    const bool scores = op.kind == OP_SCORES;
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
        place_t place = tile_begins, block_begins = {0, 0};
        const int blocks = tile_blocks(w, op);
        // Attention's input block 0 holds the rows' largest scores: nothing is multiplied by it.
        for (int c = scores ? 0 : 1; c < op.in_blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            const int rows = c == op.in_blocks - 1 ? op.halves * TN : TM;
            const int used = c == op.in_blocks - 1 ? op.last_lanes : TM;
            place = tile_begins;
            for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                const int channels = scores ? w.first_block + c : w.block + b;
                const int key = (scores ? times(w.group, op.tile_m) + b : c - 1) * TM;
                const int keys = least(scores ? TM : rows, op.keys - key);
                if (!scores) place = block_begins;
                load_tokens(op, memory, window_at + times(channels, op.operand_plane), keys, place, bank, out);
                for (int i = scores ? 0 : keys * BLOCK_BEATS; i < rows * BLOCK_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TURN_BEATS
                    const int channel = i / BLOCK_BEATS;
                    out.write(turn_get(bank, channel, i % BLOCK_BEATS, scores && channel < used ? keys : 0));
                }
            }
            block_begins = place;
        }
        tile_begins = place;
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
