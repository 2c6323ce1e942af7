// Attention (docs/arithmetic-attention.md): feature maps in the place of weights.
//
// Scores are a convolution of the queries whose weights are the keys, transposed as they are read. In an attention the MAC
// process keeps them, chunk by chunk of the keys, makes weights exp(score - largest) of them as it fills its patches, and
// multiplies these by the values, as they lie (softmax.h). In scheme dynamic these are two ops (dynamic_load.h).
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

// A window's next `tokens` tokens of a block of channels, to be turned: a burst where all of them are neighbours, else requests of
// a beat each, which overlap.
inline void load_tokens(const op_t &op, const beat_t *memory, int at, int tokens, place_t &place, data_t bank[BEAT][BANK_DEPTH]) {
#pragma HLS INLINE
    const int beats = tokens * BLOCK_BEATS;
    if (op.window_row >= op.keys) {
        const int from = at + place.row_at + place.column * BLOCK_BEATS;
        for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
            turn_put(bank, n, memory[from + n]);
        }
        place.column += tokens;
        return;
    }
    int group = 0;
    for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
        turn_put(bank, n, memory[at + place.row_at + place.column * BLOCK_BEATS + group]);
        group++;
        if (group == BLOCK_BEATS) {
            group = 0;
            next_token(place, op);
        }
    }
}

// The blocks of a chunk's keys that say where a key lies: in row block `c` a one alone where the channel is its row, the same of all
// keys of a block; in a column block where it is its column.
inline void make_places(const op_t &op, const chunk_t &k, int c, const met_t &met, hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const bool by_row = c < op.place_rows;
    const int beats = times(met.count, TURN_BEATS);
    int block = k.first + met.first, channel = 0, group = 0;
    for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=CHUNK_BLOCKS*TURN_BEATS
        const int row = (block >> op.place_shift) - c * TM;
        beat_t b;
        for (int i = 0; i < BEAT; i++) {
#pragma HLS UNROLL
            const int lies = by_row ? row : group * BEAT + i;
            b.v[i] = lies == channel ? op.place_value : 0;
        }
        out.write(b);
        group++;
        if (group == BLOCK_BEATS) {
            group = 0;
            channel++;
        }
        if (channel == TM) {
            channel = 0;
            block++;
        }
    }
}

// The keys of a chunk, TURNED blocks at a time: [input block][block][half][TN][TM], TN over channels and TM over keys. begins: the
// first key's place; returns the place behind the last.
inline place_t load_keys(const op_t &op, const beat_t *memory, int at, const chunk_t &k, const place_t &begins,
                         data_t bank[BEAT][BANK_DEPTH], hls::stream<beat_t> &out) {
#pragma HLS INLINE
    const int left = op.keys - k.first * TM;  // keys from the chunk's first on
    place_t place = begins;
    int block_at = at;
    for (int c = 0; c < op.in_blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
        const int rows = c == op.in_blocks - 1 ? op.halves * TN : TM;
        const int used = c == op.in_blocks - 1 ? op.last_lanes : TM;
        if (c < op.place_rows + op.place_columns) {
            make_places(op, k, c, met_by(op, k, c), out);
            continue;
        }
        place = begins;
        for (int first = 0; first < k.blocks; first += TURNED) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            const int some = least(TURNED, k.blocks - first);
            load_tokens(op, memory, block_at, least(some * TM, left - first * TM), place, bank);
            const int beats = times(some, rows * BLOCK_BEATS);
            int block = 0, i = 0;
            for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=BANK_DEPTH
                const int channel = i / BLOCK_BEATS;
                const int keys = least(TM, left - (first + block) * TM);
                out.write(turn_get(bank, block, channel, i % BLOCK_BEATS, channel < used ? keys : 0));
                i++;
                if (i == rows * BLOCK_BEATS) {
                    i = 0;
                    block++;
                }
            }
        }
        block_at += op.operand_plane;
    }
    return place;
}

// The values of a chunk's keys: [block of keys][block][half][TN][TM], TN over keys and TM over channels, as they lie. A block is a
// burst where its tokens are neighbours and many; else all are requests of a beat each, which overlap.
inline void load_values(const op_t &op, const beat_t *memory, int at, int blocks, const chunk_t &k, const place_t &begins,
                        hls::stream<beat_t> &out) {
#pragma HLS INLINE
    place_t block_begins = begins, place = begins;
    const beat_t nothing = {};
    if (TURN_BEATS >= GATHER && op.window_row >= op.keys) {
        int column = begins.column;
        for (int c = k.first; c < k.first + k.blocks; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=CHUNK_BLOCKS
            const int beats = (c == op.key_blocks - 1 ? op.key_halves * TN : TM) * BLOCK_BEATS;
            const int there = least(beats, (op.keys - c * TM) * BLOCK_BEATS);
            int from = at + begins.row_at + column * BLOCK_BEATS;
            for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                for (int i = 0; i < there; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=TURN_BEATS
                    out.write(memory[from + i]);
                }
                for (int i = there; i < beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TURN_BEATS
                    out.write(nothing);
                }
                from += op.values_plane;
            }
            column += TM;
        }
        return;
    }
    const bool ends = k.first + k.blocks == op.key_blocks;
    const int last = ends ? op.key_halves * TN : TM;  // rows of the last block
    const int beats = times(blocks, (times(k.blocks - 1, TM) + last) * BLOCK_BEATS);
    int c = k.first, b = 0, token = 0, group = 0, block_at = at;
    for (int n = 0; n < beats; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
        const bool there = times(c, TM) + token < op.keys;
        beat_t v = nothing;
        if (there) v = memory[block_at + place.row_at + place.column * BLOCK_BEATS + group];
        out.write(v);
        group++;
        if (group == BLOCK_BEATS) {
            group = 0;
            token++;
            if (there) next_token(place, op);
        }
        if (token == (c == k.first + k.blocks - 1 ? last : TM)) {
            token = 0;
            b++;
            block_at += op.values_plane;
            if (b == blocks) {
                b = 0;
                block_at = at;
                c++;
                block_begins = place;
            }
            place = block_begins;
        }
    }
}

// The second feature map, and the third, in the order in which the MAC array takes weights. A tile meets the tokens of the window
// in which it lies.
inline void load_operand(const op_t &op, const beat_t *memory, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    static data_t bank[BEAT][BANK_DEPTH];
#pragma HLS ARRAY_PARTITION variable=bank dim=1 complete
    const bool attends = op.kind == OP_ATTEND;
    walk_t w = walk_begin(op);
    int window_y = 0, window_x = 0;  // its first row and column
    place_t begins = {0, 0};         // the chunk's first key; of scores the tile's
    chunk_t k = chunk_at(op, 0);
    const int visits = attends ? times(op.chunks, op.tiles) : op.tiles;
    for (int t = 0; t < visits; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        if (w.out_x == 0) window_x = 0;
        if (w.out_x >= window_x + op.window_w) window_x += op.window_w;
        if (w.out_y >= window_y + op.window_h) window_y += op.window_h;
        const int window_at = times(window_y, op.operand_line) + window_x * BLOCK_BEATS;
        const int keys_at = op.operand + window_at + times(w.first_block, op.operand_plane);
        const int blocks = tile_blocks(w, op);
        if (!attends) {
            k.first = times(w.group, op.tile_m);
            k.blocks = blocks;
        }
        if (k.first == 0) begins.row_at = begins.column = 0;
        const place_t ends = load_keys(op, memory, keys_at, k, begins, bank, out);
        if (attends) {
            const int values_at = op.values + window_at + times(w.block, op.values_plane);
            load_values(op, memory, values_at, blocks, k, begins, out);
        }
        begins = ends;
        const int first = k.first + CHUNK_BLOCKS;
        const bool more = attends && first < op.key_blocks;
        if (attends) k = chunk_at(op, more ? first : 0);
        if (!more) walk_next(w, op);
    }
}

#endif

#endif
