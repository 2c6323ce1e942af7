// Scheme dynamic: the processes that read float32 tensors and give the array 8-bit integers.
#ifndef HLSGEN_DYNAMIC_LOAD_H
#define HLSGEN_DYNAMIC_LOAD_H

#include "dynamic.h"
#include "walk.h"
#ifdef ATTENTION
#include "attention.h"
#endif

// The least and the largest element, and zero, of the tensors of `count` sources: each has them in the beat behind it.
inline void extent_of(const beat_t *memory, int first, int count, float &low, float &high) {
#pragma HLS INLINE off
    low = high = 0.0f;
    for (int s = first; s < first + count; s++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_SOURCES
        const beat_t b = memory[SOURCES[s].extent];
        const float least = float_of(word_at(b, 0)), most = float_of(word_at(b, 1));
        low = least < low ? least : low;
        high = larger(most, high);
    }
}

// `beats` beats of padding.
inline void load_padding(int beats, int level, hls::stream<beat_t> &out) {
#pragma HLS INLINE
    for (int i = 0; i < beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_BURST
        beat_t b;
        for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
            b.v[j] = (signed char)(level);
        }
        out.write(b);
    }
}

// Input patches as integers, padding and all, one channel block after another and that once a part: high halves, again, low
// halves, as the products need them. Of attention what goes out are weights: the block of the rows' largest scores
// comes first and is kept, and the rows' sums go to the epilogue. Of LayerNorm only sums go there. What is only added to or
// activated goes past the array.
inline void load_input(int index, const beat_t *memory, hls::stream<scaling_t> &scalings, hls::stream<beat_t> &passed,
#ifdef ATTENTION
                       hls::stream<row_sum_t> &row_sums,
#endif
#ifdef NORM
                       hls::stream<moments_t> &moments,
#endif
                       hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
#ifdef ATTENTION
    const bool attends = op.kind == OP_ATTEND;
#pragma HLS ARRAY_PARTITION variable=POWERS dim=1 complete
    static float largest[TILE_PIXELS];
#pragma HLS DEPENDENCE variable=largest inter false
    static row_sum_t row_sum[TILE_PIXELS];
#pragma HLS DEPENDENCE variable=row_sum inter false
    row_sum_t total_weight = 0;
#else
    const bool attends = false;
#endif
#ifdef NORM
    const bool norms = op.kind == OP_NORM;
    static moments_t taken[TILE_PIXELS];
#pragma HLS DEPENDENCE variable=taken inter false
    moments_t sums_taken = {0, 0};
#else
    const bool norms = false;
#endif
    const bool passes = op.kind == OP_MAXIMUM, multiplied = !norms && !passes;
    const bool image = op.reading == READ_IMAGE, levels = op.reading == READ_LEVELS && multiplied;

    // What an integer stands for.
    scaling_t scaling = {1.0f, 0};
    float inverse = 0.0f, low = 0.0f, high = 0.0f;
    int zero = 0;
    if (!image && !passes) extent_of(memory, op.first_source, op.source_count, low, high);
    if (levels) {
        const scaling_t found = choose(low, high);
        scaling.scale = found.scale;
        scaling.zero = 128 - found.zero;
        inverse = 1.0f / found.scale;
        zero = found.zero;
    } else if (!image && !passes) {
        const step_t step = steps_of(larger(-low, high), norms ? float(LARGEST_OF_NORM) : float(LARGEST));
        inverse = attends ? LOG2_E : step.inverse;
        scaling.scale = 256.0f * step.scale;
#ifdef NORM
        if (norms) scaling.scale = step.scale / float(op.norm_channels);
#endif
#ifdef ATTENTION
        if (op.operand_count > 0) {
            extent_of(memory, op.operand_source, op.operand_count, low, high);
            const step_t other = steps_of(larger(-low, high), float(LARGEST));
            scaling.scale = 256.0f * (attends ? other.scale : step.scale * other.scale);
        }
#endif
    }
    scalings.write(scaling);
    const int padding = levels ? zero - 128 : 0;
    const int stored = image ? BLOCK_BEATS : STORED_BEATS;

    walk_t w = walk_begin(op);
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const patch_t p = patch_of(w, op);
        const int columns = p.x_end - p.x_begin, rows = p.y_end - p.y_begin;
        const int left = p.x_begin - p.x0, right = p.cols - left - columns, top = p.y_begin - p.y0;
        for (int part = 0; part < op.parts; part++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=3
            int s = op.first_source, s_begin = 0;
            // Of attention, block 0 of the first part is that of the rows' largest.
            for (int c = attends && part > 0 ? 1 : 0; c < op.part + (attends ? 1 : 0); c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                const bool keeps = attends && c == 0, begins = c == (attends ? 1 : 0), ends = c == op.part - 1 + (attends ? 1 : 0);
                const int block = w.first_block + c;
                while (block >= SOURCES[s].end) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_SOURCES
                    s_begin = SOURCES[s].end;
                    s++;
                }
                const source_t src = SOURCES[s];
                const bool whole = columns == src.width && p.cols == columns;
                const int bursts = whole ? least(rows, 1) : rows;
                const int length = (whole ? times(rows, columns) : columns) * stored;
                int at = src.base + times(block - s_begin, src.plane) + (times(p.y_begin, src.width) + p.x_begin) * stored;
                int pixel = 0, place = 0;  // of the tile, beat of its block
                beat_t word;
#pragma HLS ARRAY_PARTITION variable=word.v complete
                if (multiplied && !keeps) load_padding(times(top, p.cols) * BLOCK_BEATS, padding, out);
                for (int r = 0; r < bursts; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_ROWS
                    if (multiplied && !keeps) load_padding(left * BLOCK_BEATS, padding, out);
                    for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BURST
                        const beat_t b = memory[at + i];
#ifdef ATTENTION
                        const int keys = ends ? op.last_keys : TM;
                        if (attends && place == 0) total_weight = begins ? row_sum_t(0) : row_sum[pixel];
                        const float most = attends ? largest[pixel] : 0.0f;
                        if (keeps && place == 0) largest[pixel] = float_of(word_at(b, 0));
#endif
#ifdef NORM
                        if (norms && place == 0) {
                            sums_taken.sum = begins ? norm_sum_t(0) : taken[pixel].sum;
                            sums_taken.squares = begins ? norm_squares_t(0) : taken[pixel].squares;
                        }
#endif
                        for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
                            float x = float_of(word_at(b, j));
#ifdef ATTENTION
                            if (attends) x = keeps ? 0.0f : most - x;
#endif
                            float scaled = x * inverse;
                            if (attends && scaled > FAR) scaled = FAR;
                            int m = nearest(scaled);
#ifdef ATTENTION
                            if (attends) {
                                m = place * FLOATS + j < keys ? power_of(m, j / 2) : 0;
                                total_weight += row_sum_t(m);
                            }
#endif
#ifdef NORM
                            if (norms) {
                                sums_taken.sum += m;
                                sums_taken.squares += norm_squares_t(m) * norm_squares_t(m);
                            }
#endif
                            const int half = part == 2 ? low_half(m) : high_half(m);
                            word.v[(place & 3) * FLOATS + j] = (signed char)(levels ? level_of(x, inverse, zero) : half);
                        }
                        const bool full = place == stored - 1;
#ifdef ATTENTION
                        if (attends && !keeps && part == 0 && full) {
                            row_sum[pixel] = total_weight;
                            if (ends) row_sums.write(total_weight);
                        }
#endif
#ifdef NORM
                        if (norms && full) {
                            taken[pixel] = sums_taken;
                            if (ends) moments.write(sums_taken);
                        }
#endif
                        if (passes) {
                            passed.write(b);
                        } else if (image) {
                            out.write(b);
                        } else if (multiplied && !keeps && (place & 3) == 3) {
                            out.write(word);
                        }
                        place++;
                        if (full) {
                            place = 0;
                            pixel++;
                        }
                    }
                    if (multiplied && !keeps) load_padding(right * BLOCK_BEATS, padding, out);
                    at += src.width * stored;
                }
                if (multiplied && !keeps) load_padding(times(p.rows - top - rows, p.cols) * BLOCK_BEATS, padding, out);
            }
        }
        walk_next(w, op);
    }
}

#ifdef ATTENTION
// A window's next `keys` tokens, as halves of 16-bit integers: turned where they are keys of scores, else straight on.
inline void load_tokens(const op_t &op, const beat_t *memory, int at, int keys, float inverse, bool low, place_t &place,
                        data_t bank[BEAT][BANK_DEPTH], hls::stream<beat_t> &out) {
#pragma HLS INLINE
    int done = 0;
    while (done < keys) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=TM
        const int run = least(keys - done, op.window_row - place.column);
        const int from = at + place.row_at + place.column * STORED_BEATS;
        int key = done, quarter = 0;  // token, float beat of its block
        beat_t word;
#pragma HLS ARRAY_PARTITION variable=word.v complete
        for (int i = 0; i < run * STORED_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=TURN_BEATS
            const beat_t b = memory[from + i];
            for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
                const int m = nearest(float_of(word_at(b, j)) * inverse);
                word.v[(quarter & 3) * FLOATS + j] = (signed char)(low ? low_half(m) : high_half(m));
            }
            if ((quarter & 3) == 3) {
                if (op.kind == OP_SCORES) {
                    turn_put(bank, key * BLOCK_BEATS + quarter / 4, word);
                } else {
                    out.write(word);
                }
            }
            quarter++;
            if (quarter == STORED_BEATS) {
                quarter = 0;
                key++;
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

// The second feature map in the order in which the MAC array takes weights, as attention.h has it, part by part: high halves,
// low halves, high halves. It may be several maps side by side.
inline void load_operand(const op_t &op, const beat_t *memory, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    static data_t bank[BEAT][BANK_DEPTH];
#pragma HLS ARRAY_PARTITION variable=bank dim=1 complete
    const bool scores = op.kind == OP_SCORES;
    float low, high;
    extent_of(memory, op.operand_source, op.operand_count, low, high);
    const float inverse = steps_of(larger(-low, high), float(LARGEST)).inverse;
    walk_t w = walk_begin(op);
    int window_y = 0, window_x = 0;  // its first row and column
    place_t tile_begins = {0, 0};    // of scores: the tile's first key
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        if (w.out_x == 0) window_x = 0;
        if (w.out_x >= window_x + op.window_w) window_x += op.window_w;
        if (w.out_y >= window_y + op.window_h) window_y += op.window_h;
        const int window_at = times(window_y, op.operand_line) + window_x * STORED_BEATS;
        if (w.group == 0) tile_begins.row_at = tile_begins.column = 0;
        place_t place = tile_begins;
        const int blocks = tile_blocks(w, op);
        for (int part = 0; part < op.parts; part++) {
#pragma HLS LOOP_TRIPCOUNT min=3 max=3
            place_t block_begins = {0, 0};
            for (int c = 0; c < op.part; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                const int rows = part == op.parts - 1 && c == op.part - 1 ? op.halves * TN : TM;
                const int used = c == op.part - 1 ? op.last_lanes : TM;
                place = tile_begins;
                for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
                    const int channels = scores ? w.first_block + c : w.block + b;
                    int s = op.operand_source, s_begin = 0;
                    while (channels >= SOURCES[s].end) {
#pragma HLS LOOP_TRIPCOUNT min=0 max=MAX_SOURCES
                        s_begin = SOURCES[s].end;
                        s++;
                    }
                    const int from = SOURCES[s].base + times(channels - s_begin, SOURCES[s].plane) + window_at;
                    const int key = (scores ? times(w.group, op.tile_m) + b : c) * TM;
                    const int keys = least(scores ? TM : rows, op.keys - key);
                    if (!scores) place = block_begins;
                    load_tokens(op, memory, from, keys, inverse, part == 1, place, bank, out);
                    for (int i = scores ? 0 : keys * BLOCK_BEATS; i < rows * BLOCK_BEATS; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TURN_BEATS
                        const int channel = i / BLOCK_BEATS;
                        out.write(turn_get(bank, 0, channel, i % BLOCK_BEATS, scores && channel < used ? keys : 0));
                    }
                }
                block_begins = place;
            }
        }
        tile_begins = place;
        walk_next(w, op);
    }
}
#endif

#endif
