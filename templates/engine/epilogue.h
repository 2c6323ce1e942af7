// From the MAC array's sums to INT8: bias, requantization, activation table, residual addition (docs/arithmetic.md).
#ifndef HLSGEN_EPILOGUE_H
#define HLSGEN_EPILOGUE_H

#include "program.h"
#include "walk.h"
#ifdef DYNAMIC
#include "dynamic_epilogue.h"
#else

#ifdef SOFTMAX
#include "softmax.h"
#endif
#ifdef NORM
#include "norm.h"
#endif

// x / 2^shift, ties to even (AP_RND_CONV).
inline scaled_t round_shift_even(scaled_t x, int shift) {
#pragma HLS INLINE
    const scaled_t one = 1;
    const scaled_t half = shift > 0 ? scaled_t(one << (shift - 1)) : scaled_t(0);
    const scaled_t odd = shift > 0 ? scaled_t((x >> shift) & one) : one;
    return (x + half - one + odd) >> shift;
}

#if SCHEME == SCHEME_NATIVE
// The accumulator with its bias, requantized and clamped to [low, high].
inline pre_t requantize(biased_t sum, const channel_t &c, int low, int high, int zero_point) {
#pragma HLS INLINE
    // QNNPACK: float32 product, rounded to an integer (ties to even) by adding and taking away 1.5 * 2^23.
    union {
        int bits;
        float value;
    } multiplier;
    multiplier.bits = c.multiplier;
    float y = float(int(sum)) * multiplier.value;
    y = y < -1024.0f ? -1024.0f : y;
    y = y > 1024.0f ? 1024.0f : y;
    const float magic = 12582912.0f;
    const int rounded = int((y + magic) - magic) + zero_point;
    return rounded < low ? low : rounded > high ? high : rounded;
}
#else
// The accumulator with its bias, requantized.
inline scaled_t scaled_by(biased_t sum, const channel_t &c) {
#pragma HLS INLINE
#if SCHEME == SCHEME_AFFINE || defined(ATTENTION)
    const scaled_t scaled = scaled_t(sum) * scaled_t(c.multiplier);
#else
    const scaled_t scaled = sum;
#endif
    return round_shift_even(scaled, c.shift);
}

// The same with its zero point, clamped to [low, high].
inline pre_t clamped(scaled_t scaled, int low, int high, int zero_point) {
#pragma HLS INLINE
    const scaled_t y = scaled + scaled_t(zero_point);
    return y < scaled_t(low) ? pre_t(low) : y > scaled_t(high) ? pre_t(high) : pre_t(y);
}
#endif

// Residual addition of two 8-bit elements; ties to even, in `native` away from zero (QNNPACK's q8vadd).
inline data_t add_residual(data_t a, data_t b, const op_t &op) {
#pragma HLS INLINE
    const added_t one = 1;
    const added_t total = added_t(op.a_multiplier) * added_t(a) + added_t(op.b_multiplier) * added_t(b) + added_t(op.add_offset);
    const added_t half = op.add_shift > 0 ? added_t(one << (op.add_shift - 1)) : added_t(0);
#if SCHEME == SCHEME_NATIVE
    const added_t rounded = (total + half - (total < added_t(0) ? one : added_t(0))) >> op.add_shift;
#else
    const added_t odd = op.add_shift > 0 ? added_t((total >> op.add_shift) & one) : one;
    const added_t rounded = (total + half - one + odd) >> op.add_shift;
#endif
    const added_t y = rounded + added_t(op.add_zero_point);
    return y < added_t(-128) ? data_t(-128) : y > added_t(127) ? data_t(127) : data_t(y);
}

inline void epilogue(int index, hls::stream<beat_t> &parameters, hls::stream<sums_t> &in,
#ifdef ATTENTION
                     hls::stream<row_t> &row_sums,
#endif
#ifdef NORM
                     hls::stream<moments_t> &moments,
#endif
                     hls::stream<beat_t> &residual, hls::stream<beat_t> &out) {
#pragma HLS INLINE off
    const op_t op = PROGRAM[index];
    // Two lanes read a copy, one through each of its ports. A beat is written at once: two words of a block memory, through both
    // ports, or one in LUTs.
    const int COPIES = (LANES + 1) / 2, WORDS = TABLE_BEATS > 64 ? 2 : 1, WORD = BEAT / WORDS;
    static data_t table[COPIES][TABLE_BEATS * WORDS][WORD];
    static channel_t channels[MAX_CHANNELS / TM][TM];
#pragma HLS ARRAY_PARTITION variable=table dim=1 complete
#pragma HLS ARRAY_RESHAPE variable=table dim=3 complete
#if TABLE_URAM
#pragma HLS BIND_STORAGE variable=table type=ram_t2p impl=uram
#elif TABLE_BEATS > 64
#pragma HLS BIND_STORAGE variable=table type=ram_t2p impl=bram
#endif
#pragma HLS ARRAY_PARTITION variable=channels dim=2 complete
#ifdef SOFTMAX
    static channel_t rows[ATTENTION_PIXELS];  // attention: what divides each pixel's row
    const bool attends = op.kind == OP_SCORES || op.kind == OP_ATTEND;
    row_t row;
#pragma HLS ARRAY_PARTITION variable=row.sum complete
#pragma HLS ARRAY_PARTITION variable=row.largest complete
    for (int q = 0; q < MADE; q++) {
#pragma HLS UNROLL
        row.sum[q] = 0;
        row.largest[q] = 0;
    }
    channel_t scaling;
    scaling.bias = 0;
    scaling.multiplier = op.multiplier;
    scaling.shift = op.scaling_shift;
#endif
#ifdef MERGES
    // Attention of several chunks of keys: sums that are relative to another largest score are merged. A chunk's is scaled down, or
    // what was held; after the last chunk one pass more divides.
    const int A_BEAT = BEAT / 4;
    static factor_t factors[FACTORS / A_BEAT][A_BEAT];
    static merged_t merged[MERGED_DEPTH][LANES];
    static sum_t merged_sum[ATTENTION_PIXELS];
    static data_t merged_largest[ATTENTION_PIXELS];
    static bool lowered[ATTENTION_PIXELS];  // whether it is what was held that is scaled down
#pragma HLS ARRAY_RESHAPE variable=factors dim=2 complete
#pragma HLS ARRAY_RESHAPE variable=merged dim=2 complete
#pragma HLS DEPENDENCE variable=merged inter false
#pragma HLS DEPENDENCE variable=merged_sum inter false
#pragma HLS DEPENDENCE variable=merged_largest inter false
    const bool merges = op.kind == OP_ATTEND && op.chunks > 1;
    for (int i = 0; i < (merges ? FACTORS / A_BEAT : 0); i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=FACTORS
        const beat_t b = parameters.read();
        for (int j = 0; j < A_BEAT; j++) {
#pragma HLS UNROLL
            factors[i][j] = factor_t(int(b.v[4 * j] & 255) | int(b.v[4 * j + 1] & 255) << 8 | int(b.v[4 * j + 2] & 255) << 16);
        }
    }
    const int chunks = merges ? op.chunks : 1, visits = merges ? op.chunks + 1 : 1;
    int chunk = 0;
#else
    const int visits = 1;
#endif

#ifdef NORM
    static norm_t norms[TILE_PIXELS];  // what normalizes each pixel
#endif

    const int table_beats = op.table ? TABLE_BEATS : 0;
    for (int i = 0; i < table_beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TABLE_BEATS
        const beat_t b = parameters.read();
        for (int copy = 0; copy < COPIES; copy++) {
#pragma HLS UNROLL
            for (int j = 0; j < BEAT; j++) {
#pragma HLS UNROLL
                table[copy][i * WORDS + j / WORD][j % WORD] = b.v[j];
            }
        }
    }
    // Eight bytes a channel, least significant first: bias, multiplier; in fixed and affine the last byte is the shift.
#ifdef SOFTMAX
    const int parameter_channels = attends ? 0 : op.channels;
#else
    const int parameter_channels = op.channels;
#endif
    for (int i = 0; i < parameter_channels; i += BEAT / 8) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=TM max=MAX_CHANNELS
        const beat_t b = parameters.read();
        for (int j = 0; j < BEAT / 8; j++) {
#pragma HLS UNROLL
            unsigned word[2];
            for (int k = 0; k < 2; k++) {
#pragma HLS UNROLL
                const int at = 8 * j + 4 * k;
                word[k] = unsigned(b.v[at] & 255) | unsigned(b.v[at + 1] & 255) << 8 |
                          unsigned(b.v[at + 2] & 255) << 16 | unsigned(b.v[at + 3] & 255) << 24;
            }
            channel_t c;
            c.bias = int(word[0]);
#if SCHEME == SCHEME_NATIVE
            c.multiplier = int(word[1]);
            c.shift = 0;
#else
            c.multiplier = int(word[1] & 0xffffff);
            c.shift = int(word[1] >> 24);
#endif
            channels[(i + j) / TM][(i + j) % TM] = c;
        }
    }

    walk_t w = walk_begin(op);
    for (int t = 0; t < times(visits, op.tiles); t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_TILES
        const int pixels = times(tile_rows(w, op), tile_cols(w, op));
        const int blocks = tile_blocks(w, op);
#ifdef MERGES
        const bool comes = chunk < chunks, held = merges && chunk > 0, divides = !merges || chunk == chunks;
        int merged_at = 0;
        chunk = chunk + 1 == visits ? 0 : chunk + 1;
#else
        const bool comes = true, divides = true;
#endif
#ifdef SOFTMAX
        const int divided = op.kind == OP_ATTEND ? pixels : 0;
        int of_group = 0;  // pixel
        for (int i = 0; i < divided; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=ATTENTION_PIXELS
            if (comes && of_group % MADE == 0) row = row_sums.read();
            const row_sum_t row_sum = comes ? row.sum[of_group % MADE] : row_sum_t(0);
#ifdef MERGES
            const data_t row_largest = row.largest[of_group % MADE];
#endif
            of_group++;
            if (of_group == TP) of_group = 0;
            sum_t sum = sum_t(row_sum) << SUM_FRACTION;
            const int bias = -int(row_sum) * op.operand_zero;
#ifdef MERGES
            const int above = int(row_largest) - int(merged_largest[i]);
            const bool lowers = comes && above > 0;
            const int step = held && comes ? (lowers ? above : -above) : 0;
            const factor_t factor = factors[step / A_BEAT][step % A_BEAT];
            if (held) {
                const sum_t down = scaled_sum(lowers ? merged_sum[i] : sum, factor);
                sum = comes ? sum_t(down + (lowers ? sum : merged_sum[i])) : merged_sum[i];
            }
            merged_sum[i] = sum;
            if (!held || lowers) merged_largest[i] = row_largest;
            lowered[i] = lowers;
            channel_t c = row_constants(sum, op);
            if (!divides) {
                c.multiplier = int(factor);
                c.shift = FACTOR_BITS;
            }
#else
            channel_t c = row_constants(sum, op);
#endif
            c.bias = bias;
            rows[i] = c;
        }
#endif
#ifdef NORM
        const int normed = op.kind == OP_NORM ? pixels : 0;
        for (int i = 0; i < normed; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=TILE_PIXELS
            norms[i] = norm_constants(moments.read(), op);
        }
#endif
        for (int b = 0; b < blocks; b++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_BLOCKS
#ifdef SOFTMAX
            const int block = attends ? 0 : w.block + b;
#else
            const int block = w.block + b;
#endif
#if defined(SOFTMAX) || defined(NORM)
            int pixel_of_tile = 0;
#endif
            sums_t sums;
            beat_t made, other;
#pragma HLS ARRAY_PARTITION variable=sums.v dim=0 complete
            int pixel = 0, lane = 0;  // within the group of TP pixels, within the block
            const int length = pixels * (TM / LANES);
            for (int i = 0; i < length; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=MAX_EPILOGUE_CYCLES
                if (comes && pixel == 0 && lane == 0) sums = in.read();
                if (op.residual >= 0 && lane % BEAT == 0) other = residual.read();
#ifdef SOFTMAX
                if (op.kind == OP_ATTEND) scaling = rows[pixel_of_tile];
#endif
                for (int l = 0; l < LANES; l++) {
#pragma HLS UNROLL
#ifdef SOFTMAX
                    const channel_t c = attends ? scaling : channels[block][lane + l];
#else
                    const channel_t c = channels[block][lane + l];
#endif
#ifdef MERGES
                    const biased_t come = biased_t(sums.v[pixel][lane + l]) + biased_t(c.bias);
                    const biased_t before = held ? biased_t(merged[merged_at][l]) : biased_t(0);
                    const bool down = held && (!comes || lowered[pixel_of_tile]);  // the one that is multiplied
                    const biased_t sum = down ? before : come;
#else
                    const biased_t sum = biased_t(sums.v[pixel][lane + l]) + biased_t(c.bias);
#endif
#if SCHEME == SCHEME_NATIVE
                    const pre_t pre = requantize(sum, c, op.pre_low, op.pre_high, op.zero_point);
#else
                    const scaled_t scaled = scaled_by(sum, c);
                    const pre_t pre = clamped(scaled, op.pre_low, op.pre_high, op.zero_point);
#endif
#ifdef MERGES
                    if (merges) merged[merged_at][l] = merged_t(scaled + scaled_t(down ? come : before));
#endif
                    const int entry = int(pre) - op.pre_low;
                    data_t y = op.table ? table[l / 2][entry / WORD][entry % WORD] : data_t(pre);
#ifdef NORM
                    if (op.kind == OP_NORM) y = normalize(data_t(int(sums.v[pixel][lane + l])), norms[pixel_of_tile], c, op);
#endif
                    if (op.residual >= 0) y = add_residual(y, other.v[(lane + l) % BEAT], op);
                    made.v[(lane + l) % BEAT] = int(y);
                }
                lane += LANES;
                if (divides && lane % BEAT == 0) out.write(made);
#ifdef MERGES
                merged_at++;
#endif
                if (lane == TM) {
                    lane = 0;
#if defined(SOFTMAX) || defined(NORM)
                    pixel_of_tile++;
#endif
                    pixel++;
                    if (pixel == TP) pixel = 0;
                }
            }
        }
#ifdef MERGES
        if (chunk == 0) walk_next(w, op);
#else
        walk_next(w, op);
#endif
    }
}

#endif

#endif
