// Scheme dynamic: from the MAC array's sums to float32: scale, bias, GELU, residual addition; LayerNorm, and a row's division.
#ifndef HLSGEN_DYNAMIC_EPILOGUE_H
#define HLSGEN_DYNAMIC_EPILOGUE_H

#include "dynamic.h"
#include "walk.h"

inline void epilogue(int index, hls::stream<scaling_t> &scalings, hls::stream<beat_t> &passed,
                     hls::stream<beat_t> &parameters, hls::stream<sums_t> &in,
#ifdef ATTENTION
                     hls::stream<row_sum_t> &row_sums,
#endif
#ifdef NORM
                     hls::stream<moments_t> &moments,
#endif
                     hls::stream<beat_t> &residual, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
    static float scales[MAX_CHANNELS / TM][TM], biases[MAX_CHANNELS / TM][TM];
    static int offsets[MAX_CHANNELS / TM][TM];
#pragma HLS ARRAY_PARTITION variable=scales dim=2 complete
#pragma HLS ARRAY_PARTITION variable=biases dim=2 complete
#pragma HLS ARRAY_PARTITION variable=offsets dim=2 complete
#pragma HLS ARRAY_PARTITION variable=PHI dim=1 complete
#ifdef ATTENTION
    const bool attends = op.kind == OP_SCORES || op.kind == OP_ATTEND;
    static float rows[TILE_PIXELS];   // attention: what each pixel's sums are multiplied by
    static int largest[TILE_PIXELS];  // scores: each row's largest so far, by its order
#pragma HLS DEPENDENCE variable=largest inter false
#else
    const bool attends = false;
#endif
#ifdef NORM
    const bool norms = op.kind == OP_NORM;
    static norm_t norm[TILE_PIXELS];  // what normalizes each pixel
#else
    const bool norms = false;
#endif
    const bool passes = op.kind == OP_MAXIMUM;
    const scaling_t scaling = scalings.read();

    // A channel's bias, scale and sum of weights, four bytes each; four more hold nothing.
    const int parameter_beats = attends || passes ? 0 : op.channels * CHANNEL_BYTES / BEAT;
    for (int i = 0; i < parameter_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=TM max=MAX_PARAMETER_BEATS
        const beat_t b = parameters.read();
        for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
            const int at = i * FLOATS + j, channel = at / 4, word = word_at(b, j);
            const float value = float_of(word);
            if (at % 4 == 0) biases[channel / TM][channel % TM] = value;
            if (at % 4 == 1) scales[channel / TM][channel % TM] = norms ? value : value * scaling.scale;
            if (at % 4 == 2) offsets[channel / TM][channel % TM] = word * scaling.zero;
        }
    }

    walk_t w = walk_begin(op);
    for (int t = 0; t < op.tiles; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int pixels = times(tile_rows(w, op), tile_cols(w, op));
        const int blocks = tile_blocks(w, op);
#ifdef ATTENTION
        const bool head_ends = w.group == op.group_tiles - 1;
        const int divided = op.kind == OP_ATTEND ? pixels : 0;
        for (int i = 0; i < divided; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TILE_PIXELS
            rows[i] = scaling.scale / float(int(row_sums.read()));
        }
#endif
#ifdef NORM
        const int normed = norms ? pixels : 0;
        for (int i = 0; i < normed; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TILE_PIXELS
            norm[i] = norm_constants(moments.read(), scaling.scale, op);
        }
#endif
        for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
            const int block = attends || passes ? 0 : w.block + b;
#ifdef ATTENTION
            const bool row_begins = w.group == 0 && b == 0;
            const int keys = head_ends && b == blocks - 1 ? op.last_keys : TM;
            int most = 0;
#endif
            sums_t sums;
            beat_t made, other, past;
#pragma HLS ARRAY_PARTITION variable=sums.v dim=0 complete
            int pixel = 0, lane = 0, row = 0;  // within the group of TP pixels, within the block; pixel of the tile
            const int length = pixels * (TM / FLOATS);
            for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_EPILOGUE_CYCLES
                if (!norms && !passes && pixel == 0 && lane == 0) sums = in.read();
                if (passes) past = passed.read();
                if (op.residual >= 0) other = residual.read();
#ifdef ATTENTION
                if (lane == 0) most = row_begins ? order_of(-3.402823466e38f) : largest[row];
#endif
                for (int l = 0; l < FLOATS; l++) {
#pragma HLS UNROLL
                    const float second = op.residual >= 0 ? float_of(word_at(other, l)) : 0.0f;
                    float scale = scales[block][lane + l];
#ifdef ATTENTION
                    if (op.kind == OP_SCORES) scale = scaling.scale;
                    if (op.kind == OP_ATTEND) scale = rows[row];
#endif
                    const biased_t offset = attends ? 0 : offsets[block][lane + l];
                    float y = float((long long)(biased_t(sums.v[pixel][lane + l]) + offset));
#ifdef NORM
                    if (norms) y = (second - norm[row].mean) * norm[row].inverse;
#endif
                    y = y * scale;
                    if (!attends) y = y + biases[block][lane + l];
                    if (passes) y = float_of(word_at(past, l));
                    if (op.activation == ACTIVATE_GELU) y = gelu(y, l / 2);
                    if (op.activation == ACTIVATE_RELU) y = y > 0.0f ? y : 0.0f;
                    if (op.residual >= 0 && !norms) y = y + second;
                    put_word(made, l, bits_of(y));
#ifdef ATTENTION
                    if (lane + l < keys && order_of(y) > most) most = order_of(y);
#endif
                }
                out.write(made);
                lane += FLOATS;
                if (lane == TM) {
                    lane = 0;
#ifdef ATTENTION
                    if (op.kind == OP_SCORES) largest[row] = most;
#endif
                    row++;
                    pixel++;
                    if (pixel == TP) pixel = 0;
                }
            }
        }
#ifdef ATTENTION
        // The head's rows are complete: their largest scores, in every lane of one more block.
        const int told = op.kind == OP_SCORES && head_ends ? pixels * STORED_BEATS : 0;
        for (int i = 0; i < told; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TILE_BEATS
            const int bits = bits_of(at_order(largest[i / STORED_BEATS]));
            beat_t b;
            for (int j = 0; j < FLOATS; j++) {
#pragma HLS UNROLL
                put_word(b, j, bits);
            }
            out.write(b);
        }
#endif
        walk_next(w, op);
    }
}

#endif
